"""The prose of ltsp(8), ltsp.conf(5) and the image applets: everything besides the option lists."""

from __future__ import annotations

from ltsp.cli import client_keys
from ltsp.cli.network_pages import NETWORK_APPLET_PAGES
from ltsp.cli.prose import CHANGED, CONF_FILE, DONE, FAILURE, LOCKED, SIGNALLED, UNFINISHED, USAGE, Example, Item, Prose
from ltsp.cli.source_pages import SOURCE_SECTIONS

LTSP_PAGE = Prose(
    title="ltsp",
    summary="turn a Linux system into an image that diskless PCs boot",
    description=(
        (
            "`ltsp` makes a squashfs image from the running system, a chroot directory, a virtual machine's disk, a "
            "container or another image, and publishes it with its kernel, so that a room of PCs can boot it over "
            "the network. Each task is an applet; "
            "options common to all applets come before its name."
        ),
        (
            "To set up a new server, run five of them: `ltsp dnsmasq`, `ltsp nfs`, `ltsp image`, `ltsp initrd` and "
            "`ltsp ipxe`. After that, run `ltsp image` when the system has changed, and `ltsp initrd` and `ltsp ipxe` "
            "when ltsp.conf has."
        ),
    ),
    files=(
        CONF_FILE,
        Item("/srv/ltsp/NAME", "A chroot directory."),
        Item("/srv/ltsp/NAME.img", "A virtual machine disk, often a symbolic link."),
        Item("/srv/ltsp/images/NAME.img", "An exported image; `NAME.img.old` is the previous one."),
        Item("/srv/tftp/ltsp/NAME", "The kernel and initrd of an image."),
    ),
    exit_status=(DONE, FAILURE, USAGE, CHANGED, LOCKED, SIGNALLED),
    examples=(
        Example("Publish the running system:", "ltsp image /"),
        Example("Use other directories:", "ltsp -b /data/ltsp -t /data/tftp image /"),
    ),
    see_also=("ltsp-image(8)", "ltsp-ipxe(8)", "ltsp-initrd(8)", "ltsp-nfs(8)", "ltsp-dnsmasq(8)", "ltsp.conf(5)"),
)

IMAGE_APPLET_PAGES = {
    "image": Prose(
        title="ltsp image",
        summary="generate a squashfs image from an image source",
        description=(
            (
                "Reads each source, leaves out what clients do not need, writes a squashfs file and publishes it "
                "together with the kernel found in it. Running clients keep the previous image. The "
                "source is never changed."
            ),
            (
                "Without an argument, every source found is built; more than three need `--all-images`. Several "
                "sources are built one after another, and the exit status is the worst of them."
            ),
        ),
        more=(
            *SOURCE_SECTIONS,
            (
                "WHAT IS LEFT OUT",
                (
                    (
                        "Two lists define what does not go into the image: excluded paths, and secrets. "
                        "`/etc/ltsp/image.excludes` and `/etc/ltsp/image.secrets` replace them; the options "
                        "`--add-image-excludes`, `--omit-image-excludes` and the similar ones for secrets change "
                        "single lines. With `--cleanup=1`, user accounts are removed too: those with an ID between "
                        "UID_MIN and UID_MAX of the image's own `/etc/login.defs`. `--dry-run` lists what each line "
                        "removes, with sizes, and the services of the image that clients will not run."
                    ),
                    (
                        "Every run lists omissions that clients may need, in lines that begin with `left out`: files "
                        "for domain logins, your entries in `/etc/hosts`, printers, and anything of 100 MiB or more; "
                        "each line ends with the setting that keeps it. `--json` lists them as `missed`."
                    ),
                    (
                        "Paths are resolved inside the source: if `/home` is a link to `var/home`, `home/*` leaves "
                        "out the files there. A warning lists links to paths that do not exist in the source, or that "
                        "the system needs, such as a link from `/root` to `/`."
                    ),
                ),
            ),
            (
                "DISK SPACE",
                (
                    (
                        "The plan shows how much space the image will need, estimated from a sample of its blocks, "
                        "and how much the kernel and initrds will. An image that cannot fit is an error; one that may "
                        "not fit is a warning, and the build stops before the disk is full. In both cases nothing "
                        "changes."
                    ),
                ),
            ),
            (
                "THE CLIENTS' INITRD",
                (
                    (
                        "Each image is published with an initrd for clients, made from the modules of its kernel and "
                        "a static busybox. Features that clients need, such as overlayfs, are checked before anything "
                        "is built, and the message names the package that provides them; `--no-preflight` publishes "
                        "anyway. The menu of `ltsp ipxe` boots this initrd. If `ltsp.img` exists (see "
                        "`ltsp-initrd(8)`), it is made again after the image, since it has the image's accounts."
                    ),
                    (
                        "`--boot-test`, or `BOOT_TEST=1` in ltsp.conf, boots the version in a virtual machine first. "
                        "Until it has booted, and if it does not boot, it is `staged`: clients still boot the "
                        "previous version, and `ltsp versions NAME --use=VERSION` publishes it untested."
                    ),
                ),
            ),
        ),
        files=(
            CONF_FILE,
            Item("/etc/ltsp/image.excludes", "Replaces the list of excluded paths: one pattern per line."),
            Item("/etc/ltsp/image.secrets", "Replaces the table of secrets."),
            Item("/etc/ltsp/image.d/", "Programs to run before the image is written."),
            Item("/srv/ltsp/images/NAME.img", "The image; `NAME.img.old` is the previous one."),
        ),
        exit_status=(DONE, FAILURE, USAGE, CHANGED, LOCKED, SIGNALLED),
        examples=(
            Example("Publish the running system:", "ltsp image /"),
            Example(
                "The running system with a separate /boot and /opt:", "ltsp image /,,/boot,subdir=boot,,/opt,subdir=opt"
            ),
            Example("A chroot, at normal priority:", 'ltsp image --ionice="" x86_64'),
            Example("The disk of a virtual machine that is shut down:", "ltsp image /var/lib/libvirt/images/lab.qcow2"),
            Example("A container in its current state:", "podman export lab | ltsp image - --name lab"),
            Example("An image of a container:", "ltsp image docker://registry.example.org/lab:2026"),
            Example("Best compression, with xz:", 'ltsp image -m "-comp xz" /'),
            Example("Go back to the previous image:", "ltsp image -r /"),
        ),
        see_also=("ltsp(8)", "ltsp-kernel(8)", "ltsp-versions(8)", "ltsp.conf(5)", "mksquashfs(1)"),
    ),
    "info": Prose(
        title="ltsp info",
        summary="show sources, images and what clients boot",
        description=(
            (
                "Prints the version of ltsp, the directories in use, the chroots, virtual machine disks and images "
                "found, and which version of each image clients boot."
            ),
        ),
        files=(CONF_FILE,),
        exit_status=(DONE, FAILURE, USAGE),
        examples=(Example("For use in scripts:", "ltsp info --json"),),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp-versions(8)"),
    ),
    "kernel": Prose(
        title="ltsp kernel",
        summary="publish the kernel and initrd of an image or chroot",
        description=(
            (
                "Finds the kernel in each image and publishes it with its initrd as a new version that shares the "
                "image. `ltsp image` does this itself; use it for images that were not built here: a live "
                "system's ISO file or a virtual machine disk that you put into `images` as NAME.img."
            ),
        ),
        more=(
            (
                "SELECTION OF THE KERNEL",
                (
                    (
                        "Kernels are searched in `/` and `/boot`, with their modules in `/lib/modules/VERSION`, in "
                        "the directories of kernel-install(8) and unified kernels (`EFI/Linux/*.efi`) on the EFI "
                        "system partition, and under the names used by boards and live media. A kernel found by "
                        "`--kernel-initrd` comes first, then that of a live medium, then `/vmlinuz`, the "
                        "system's default, then the newest of all others. Kernels without modules in the image are "
                        "skipped, and so are those without an initrd if another has one. The version in a file counts "
                        "more than that in its name: a kernel in which they differ is the last choice."
                    ),
                    (
                        "The line `kernel` of the plan shows which one was chosen and why, and which were skipped; "
                        "`--json` and the version's `manifest.json` have the same information."
                    ),
                ),
            ),
        ),
        files=(CONF_FILE, Item("/srv/tftp/ltsp/NAME/", "`vmlinuz` and `initrd.img`, under these names.")),
        exit_status=(DONE, FAILURE, USAGE, UNFINISHED, LOCKED, SIGNALLED),
        examples=(
            Example("After the kernel was updated:", "ltsp kernel x86_64"),
            Example(
                "If the built-in rules find no kernel:",
                'ltsp kernel --kernel-initrd="live/vmlinuz-* s|vmlinuz|initrd.img|" debian-live',
            ),
        ),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp.conf(5)"),
    ),
    "versions": Prose(
        title="ltsp versions",
        summary="list, select, pin and remove versions of images",
        description=(
            (
                "Each build publishes a new version: an image, kernel and initrd that belong together. Clients boot "
                "the current one. Older ones are kept for KEEP_DAYS, and KEEP_VERSIONS of them in any case, because "
                "clients that booted a version keep reading it. Versions that only KEEP_DAYS keeps use at most "
                "KEEP_SHARE percent of the disk."
            ),
            (
                "`--remove-all` removes an image: first from clients, then its versions and kernels, and its menu "
                "entry. A warning reports images whose NAME.img was deleted by hand; the next command that changes "
                "what clients boot removes them from clients, and their versions after KEEP_DAYS."
            ),
            (
                "Without options, the versions are listed with size, kernel and changes. No option copies anything, so "
                "each takes effect immediately."
            ),
        ),
        files=(CONF_FILE, Item("/srv/ltsp/images/.versions/NAME/VERSION/", "The image and manifest of a version.")),
        exit_status=(DONE, FAILURE, USAGE, UNFINISHED, LOCKED),
        examples=(
            Example("List the versions of an image:", "ltsp versions x86_64"),
            Example("Switch to any version:", "ltsp versions x86_64 --use 20260114T093000Z-3fa9c1"),
            Example("Free disk space:", "ltsp versions x86_64 --prune --keep 1"),
            Example("Remove an image:", "ltsp versions x86_64 --remove-all"),
        ),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp.conf(5)"),
    ),
}

CONF_PAGE = Prose(
    title="ltsp.conf",
    summary="settings of ltsp, its applets and its clients",
    description=(
        (
            "A text file of `KEY=value` lines in sections. Values are quoted as in a shell, without spaces around "
            "the equals sign; a quoted value may span several lines, and `#` begins a comment. `$KEY` and "
            "`${KEY}` are replaced by the value of a key that was set before. The file is parsed and never executed: "
            "commands, conditions, functions and command substitution among the settings are errors that name file "
            "and line, in all sections. Commands for clients are quoted values of `POST_INIT_x` and `PRE_INIT_x`."
        ),
        (
            "The file is rejected if it, or a directory above it, is writable by others than administrators. The "
            "groups root, sudo, wheel and admin may have write permission."
        ),
        "The command line overrides `ltsp.conf`, and `ltsp.conf` overrides the environment.",
    ),
    more=(
        ("MENU KEYS", client_keys.MENU_KEYS),
        ("CLIENT KEYS", client_keys.CLIENT_KEYS),
        (
            "SECTIONS",
            (
                "The server reads these sections in this order, and later values win:",
                Item("lines before the first section, then [common]", "For the server and all clients."),
                Item("[server]", "For the server."),
                Item(
                    "[MAC], [IP], [HOSTNAME]",
                    "For machines, by address or name; `*`, `?` and `[...]` are globs, and `|` separates several, as "
                    "in `[b8:27:eb:*|dc:a6:32:*]`.",
                ),
                Item("[APPLET/HOST]", "For one applet on some machines; `[image/]` is for all machines."),
                Item("[clients]", "For clients, not read by the server."),
                (
                    "Any other section is for `INCLUDE=SECTION`, which is replaced by the lines of that section. It "
                    "may name several sections; loops are errors."
                ),
            ),
        ),
    ),
    files=(CONF_FILE,),
    examples=(
        Example(
            "Another directory for kernels, strong compression, and a command before each build:",
            "[common]\nTFTP_DIR=/var/lib/tftpboot\n\n[server]\nCOMPRESSION=zstd\nPRESET=small\nKEEP_VERSIONS=4\n"
            "PRE_IMAGE_APT=\"apt-get clean\"\nADD_IMAGE_EXCLUDES='\nopt/games\nvar/cache/*\n'",
        ),
    ),
    see_also=("ltsp(8)", "ltsp-image(8)"),
)

APPLET_PAGES = IMAGE_APPLET_PAGES | NETWORK_APPLET_PAGES
"""By name."""
