from __future__ import annotations

import pytest

from ltsp.errors import LtspError
from ltsp.services import nginx


def test_the_configuration_serves_the_two_directories_and_nothing_else():
    text = nginx.nginx_configuration("/srv/ltsp", "/srv/tftp", 8080)
    assert text.startswith("# Made by ltsp http --nginx")
    assert "listen 8080;" in text
    assert "alias /srv/tftp/ltsp/$1;" in text
    assert "alias /srv/ltsp/images/$1;" in text
    assert r"|\.versions/" in text
    assert text.count("{") == text.count("}") == 5


@pytest.mark.parametrize("directory", ["/srv/a b", "/srv/$x", "/srv/a;b", "/srv/a{b", '/srv/a"b', "/srv/a\nb"])
def test_a_name_that_would_break_out_of_the_configuration_is_refused(directory):
    with pytest.raises(LtspError, match="nginx cannot be told"):
        nginx.nginx_configuration(directory, "/srv/tftp", 80)
