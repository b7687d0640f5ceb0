"""The table of tools, of which lists are made."""

import pytest

from corpus.dict_tree import make_tree, paths
from corpus.make_rules import rules
from ltsp.transform.exclude import tune_image_excludes
from ltsp.transform.rules import read_exclusions, read_tools
from ltsp.transform.secret_rows import Action, tune_image_secrets
from ltsp.tree.selection import Inclusion

NONE = iter(())


def test_each_tool_has_a_source_and_rows_and_no_name_is_there_twice():
    table = list(read_tools())
    assert len({tool.name for tool in table}) == len(table) > 30
    assert all(tool.source and tool.rows for tool in table)


def test_other_states_of_a_system_and_backups_are_in_both_lists():
    lines = {line.text for line in tune_image_excludes(None, NONE, NONE).lines}
    rows = {row.pattern for row in tune_image_secrets().rows if row.action is Action.LEFT_OUT}
    both = {line.text for line in read_exclusions()}
    assert {"timeshift/*", ".snapshots/*", "var/cache/rsnapshot/*"} <= both
    assert both <= lines & rows


@pytest.mark.parametrize("cleanup", [True, False])
def test_they_stay_out_without_cleanup_too(cleanup):
    tree = make_tree({"timeshift/snapshots/a/localhost/etc/shadow": "a", "var/lib/docker/a": "a", "etc/passwd": "a"})
    of = rules(cleanup=cleanup).follow_links(tree)
    left = paths(tree.select(of.selection, of.affects))
    assert "timeshift" in left
    assert "timeshift/snapshots" not in left
    assert ("var/lib/docker/a" in left) is not cleanup


def test_what_omit_image_excludes_lets_in_is_let_in_by_the_table_too():
    of = rules(omit_excludes="timeshift/*")
    assert of.selection("timeshift/snapshots", True) is Inclusion.ALL


def test_a_store_that_its_settings_move_is_not_walked_through():
    """What dockerd's own settings say is known before the source is read."""
    outline = make_tree({"etc/docker/daemon.json": '{"data-root": "/data/big/docker"}', "data": None})
    reading = rules().follow_links(outline, is_outline=True).selection_for_reading(links_known=True)
    assert reading("data/big/docker", True) is Inclusion.EMPTIED
    assert reading("data/big", True) is Inclusion.ALL
