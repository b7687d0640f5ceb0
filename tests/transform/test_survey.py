from corpus.dict_tree import make_tree
from corpus.tree_strategies import Sparse
from ltsp.transform.exclude import Exclusions
from ltsp.transform.survey import Removal, RemovedPaths, survey
from ltsp.tree.content import Bytes
from ltsp.tree.node import File, Metadata
from ltsp.tree.selection import ObservedSelection


def test_sizes_are_summed_up_the_tree_and_a_file_with_two_names_counts_once():
    tree = make_tree({"usr/bin/a": b"1" * 60, "usr/lib/b": b"2" * 30, "etc/c": b"3" * 5})
    tree = tree.edit({"usr/bin/twin": tree.get("usr/bin/a")})
    found = survey(tree)
    assert (found.files, found.bytes) == (3, 95)
    assert found.largest == (("usr", 90), ("usr/bin", 60), ("usr/lib", 30), ("etc", 5))
    assert survey(tree, count=1).largest == (("usr", 90),)


def test_holes_are_distinguished():
    tree = make_tree({"disk": File(Metadata(0o644), Sparse(1 << 40, ((4096, 5),)))})
    assert (survey(tree).bytes, survey(tree).stored) == (1 << 40, 5)


def test_a_directory_that_is_nearly_all_of_one_below_it_is_not_named():
    assert survey(make_tree({"a/b/c/d": b"x" * 9, "a/e": b""})).largest == (("a/b/c", 9),)


def test_files_that_give_rights_are_listed():
    def file(mode, *xattrs):
        return File(Metadata(mode, xattrs=tuple((name, b"") for name in xattrs)), Bytes(b""))

    tree = make_tree(
        {
            "su": file(0o4755),
            "wall": file(0o2755),
            "lock": file(0o2644),
            "ping": file(0o755, "security.capability"),
            "ls": file(0o755, "security.selinux"),
        }
    )
    assert survey(tree).privileged == ("ping", "su", "wall")


def test_each_rule_is_reported_with_what_it_leaves_out():
    tree = make_tree({"home/a/b": b"123", "home/.c": b"4", "opt/ltsp5": b"56", "usr/x": b"7", "swapfile": b"8" * 9})
    exclusions = Exclusions(["home/*", "opt/ltsp*", "swapfile", "never"])
    gone = RemovedPaths()
    tree.select(ObservedSelection(exclusions.select_path, gone.add))
    assert gone.group_by_rule(exclusions.find_rule) == [
        Removal("home/*", ("home/.c", "home/a"), 2, 4),
        Removal("opt/ltsp*", ("opt/ltsp5",), 1, 2),
        Removal("swapfile", ("swapfile",), 1, 9),
    ]
