"""`python -m ltsp`"""

from ltsp.cli.main import main

main()
