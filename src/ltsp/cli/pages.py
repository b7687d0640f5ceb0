"""The prose of ltsp(8), ltsp.conf(5) and the applets for images: what options cannot say of themselves."""

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
            "`ltsp` makes one squashfs image of the system it runs on, of a chroot directory, a virtual machine's "
            "disk, a container or another image, and publishes it with its kernel so that a room of PCs boots it over "
            "the network. Each task is an applet; "
            "options for all of them stand before its name."
        ),
        (
            "A new server needs five of them, once: `ltsp dnsmasq`, `ltsp nfs`, `ltsp image`, `ltsp initrd` and "
            "`ltsp ipxe`. Later on `ltsp image` is run after the system was changed, and `ltsp initrd` and `ltsp ipxe` "
            "after ltsp.conf was."
        ),
    ),
    files=(
        CONF_FILE,
        Item("/srv/ltsp/NAME", "A chroot directory."),
        Item("/srv/ltsp/NAME.img", "A virtual machine disk, often a symbolic link to it."),
        Item("/srv/ltsp/images/NAME.img", "An exported image, and `NAME.img.old` the one before it."),
        Item("/srv/tftp/ltsp/NAME", "Kernel and initrd of an image."),
    ),
    exit_status=(DONE, FAILURE, USAGE, CHANGED, LOCKED, SIGNALLED),
    examples=(
        Example("Publish the running system:", "ltsp image /"),
        Example("The same with other directories:", "ltsp -b /data/ltsp -t /data/tftp image /"),
    ),
    see_also=("ltsp-image(8)", "ltsp-ipxe(8)", "ltsp-initrd(8)", "ltsp-nfs(8)", "ltsp-dnsmasq(8)", "ltsp.conf(5)"),
)

IMAGE_APPLET_PAGES = {
    "image": Prose(
        title="ltsp image",
        summary="generate a squashfs image from an image source",
        description=(
            (
                "Reads each source, leaves out what is no client's business, writes a squashfs file and publishes it "
                "together with the kernel found in it. Clients that run on the image published before keep it. The "
                "source is never changed."
            ),
            (
                "Without an argument every source found is built; more than three need `--all-images`. Several sources "
                "are tried one after the other, and the exit status is that of the worst."
            ),
        ),
        more=(
            *SOURCE_SECTIONS,
            (
                "WHAT IS LEFT OUT",
                (
                    (
                        "Two lists say what does not go into the image: excluded paths, and secrets. "
                        "`/etc/ltsp/image.excludes` and `/etc/ltsp/image.secrets` replace them; the options "
                        "`--add-image-excludes`, `--omit-image-excludes` and their like for secrets change single "
                        "lines. With `--cleanup=1`, accounts of people are taken out too: those whose number lies "
                        "between UID_MIN and UID_MAX of the image's own `/etc/login.defs`. `--dry-run` lists what each "
                        "line removes, with sizes, and the services of the image that clients will not run."
                    ),
                    (
                        "What is left out and may be missed is said in every run, a line each that begins with `left "
                        "out`: what logins to a domain need, names of your own in `/etc/hosts`, printers, and what has "
                        "100 MiB or more; the line ends with the setting that keeps it. `--json` has them as `missed`."
                    ),
                    (
                        "A line holds for where its path leads inside the system: where `/home` is a link to "
                        "`var/home`, `home/*` leaves out what is there. Links that lead to nothing in the source, or "
                        "to what the system needs, such as `/root` to `/`, are named in a warning."
                    ),
                ),
            ),
            (
                "THE ROOM THAT IT TAKES",
                (
                    (
                        "The plan says how much room the image will take, by a sample of its blocks, and how much "
                        "kernel and initrds will. What cannot fit is refused; of what may not, a warning says so, and "
                        "the build ends before the disk is full. Either way all is as it was."
                    ),
                ),
            ),
            (
                "WHAT CLIENTS START FROM",
                (
                    (
                        "With the image goes an initrd of ours, made of the modules of its kernel and a static "
                        "busybox. What no client could do without, such as overlayfs, is looked for before anything is "
                        "built, and the package that brings it is named; `--no-preflight` publishes all the same. "
                        "Clients load it through the menu of `ltsp ipxe`. Where `ltsp initrd` has been run before, "
                        "`ltsp.img` is made again after the image, since the image's accounts are in it."
                    ),
                    (
                        "`--boot-test`, or `BOOT_TEST=1` in ltsp.conf, boots the version in a virtual machine first. "
                        "Until then, and for good where it does not boot, it is `staged`: clients go on with the "
                        "version before, and `ltsp versions NAME --use=VERSION` publishes it untested."
                    ),
                ),
            ),
        ),
        files=(
            CONF_FILE,
            Item("/etc/ltsp/image.excludes", "Replaces the list of excluded paths: one pattern a line."),
            Item("/etc/ltsp/image.secrets", "Replaces the table of secrets."),
            Item("/etc/ltsp/image.d/", "Programs that are run before the image is written."),
            Item("/srv/ltsp/images/NAME.img", "The image, and `NAME.img.old` the one before it."),
        ),
        exit_status=(DONE, FAILURE, USAGE, CHANGED, LOCKED, SIGNALLED),
        examples=(
            Example("Publish the running system:", "ltsp image /"),
            Example(
                "The running system with a separate /boot and /opt:", "ltsp image /,,/boot,subdir=boot,,/opt,subdir=opt"
            ),
            Example("A chroot, at normal priority:", 'ltsp image --ionice="" x86_64'),
            Example("The disk of a virtual machine that is shut down:", "ltsp image /var/lib/libvirt/images/lab.qcow2"),
            Example("A container, as it is now:", "podman export lab | ltsp image - --name lab"),
            Example("An image of a container:", "ltsp image docker://registry.example.org/lab:2026"),
            Example("Compress as well as xz can:", 'ltsp image -m "-comp xz" /'),
            Example("Back to the image before:", "ltsp image -r /"),
        ),
        see_also=("ltsp(8)", "ltsp-kernel(8)", "ltsp-versions(8)", "ltsp.conf(5)", "mksquashfs(1)"),
    ),
    "info": Prose(
        title="ltsp info",
        summary="show the installation",
        description=(
            (
                "Prints the version, the directories in use, the chroots, virtual machine disks and images found, and "
                "which version of each image clients would boot."
            ),
        ),
        files=(CONF_FILE,),
        exit_status=(DONE, FAILURE, USAGE),
        examples=(Example("For a program:", "ltsp info --json"),),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp-versions(8)"),
    ),
    "kernel": Prose(
        title="ltsp kernel",
        summary="publish kernel and initrd of an image or chroot",
        description=(
            (
                "Finds the kernel in each image and publishes it with its initrd as a new version that shares the "
                "image. `ltsp image` does this by itself; alone it is for images that were not built here: a live "
                "system's ISO file or a virtual machine disk that was put below `images` as NAME.img."
            ),
        ),
        more=(
            (
                "WHICH KERNEL",
                (
                    (
                        "Kernels are looked for in `/` and `/boot`, with their modules in `/lib/modules/VERSION`, in "
                        "the directories of kernel-install(8) and unified kernels (`EFI/Linux/*.efi`) on the EFI "
                        "system partition, and under the names of boards and live media. The kernel that "
                        "`--kernel-initrd` leads to comes first, then that of a live medium, then `/vmlinuz`, the "
                        "system's default, then the newest of all others. One without modules in the image is passed "
                        "over, and so is one without an initrd where another has one. What a file states counts more "
                        "than its name: a kernel that states another version is the last choice."
                    ),
                    (
                        "The line `kernel` of the plan says which it is and why, and what was passed over; `--json` "
                        "and the version's `manifest.json` have the same."
                    ),
                ),
            ),
        ),
        files=(CONF_FILE, Item("/srv/tftp/ltsp/NAME/", "`vmlinuz` and `initrd.img`, whatever they were called.")),
        exit_status=(DONE, FAILURE, USAGE, UNFINISHED, LOCKED, SIGNALLED),
        examples=(
            Example("After a kernel was found wanting:", "ltsp kernel x86_64"),
            Example(
                "Where the built-in rules find nothing:",
                'ltsp kernel --kernel-initrd="live/vmlinuz-* s|vmlinuz|initrd.img|" debian-live',
            ),
        ),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp.conf(5)"),
    ),
    "versions": Prose(
        title="ltsp versions",
        summary="list, choose, pin and remove versions of an image",
        description=(
            (
                "Each build publishes a new version: image, kernel and initrd that belong together. The current one is "
                "what clients boot. Older ones are kept for KEEP_DAYS, and KEEP_VERSIONS of them in any case, because "
                "clients that booted from a version go on reading it. Those that only KEEP_DAYS keeps take at most "
                "KEEP_SHARE percent of the disk."
            ),
            (
                "`--remove-all` removes an image: clients get it no more, then its versions and kernels go, and its "
                "entry of the menu. An image whose NAME.img was deleted by hand is told of; the next command that "
                "changes what clients boot takes it from them and lets its versions go after KEEP_DAYS."
            ),
            (
                "Without options the versions are listed: date, size, kernel and what changed. Nothing is copied by "
                "any of the options, so each takes effect at once."
            ),
        ),
        files=(CONF_FILE, Item("/srv/ltsp/images/.versions/NAME/VERSION/", "Image and manifest of a version.")),
        exit_status=(DONE, FAILURE, USAGE, UNFINISHED, LOCKED),
        examples=(
            Example("What is there:", "ltsp versions x86_64"),
            Example("Go to any version:", "ltsp versions x86_64 --use 20260114T093000Z-3fa9c1"),
            Example("Make room:", "ltsp versions x86_64 --prune --keep 1"),
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
            "A text file of `KEY=value` lines in sections. Values are quoted as in a shell, and no space stands around "
            "the equals sign; a value in quotes may go over several lines, and `#` begins a comment. `$KEY` and "
            "`${KEY}` give the value of a key that was set before. The file is parsed and never executed: "
            "commands, conditions, functions and command substitution among the settings are refused with file and "
            "line, in all sections. Commands for clients are values in quotes, of `POST_INIT_x` and `PRE_INIT_x`."
        ),
        (
            "The file is refused when it, or a directory above it, is writable by others than administrators. Group "
            "root, sudo, wheel and admin may write."
        ),
        "What the command line says comes before `ltsp.conf`, and `ltsp.conf` before the environment.",
    ),
    more=(
        ("KEYS OF THE MENU", client_keys.MENU_KEYS),
        ("KEYS OF CLIENTS", client_keys.CLIENT_KEYS),
        (
            "SECTIONS",
            (
                "On the server these are read in this order, and the later value holds:",
                Item("lines before the first section, then [common]", "For the server and all clients."),
                Item("[server]", "For the server."),
                Item(
                    "[MAC], [IP], [HOSTNAME]",
                    "For machines, by address or name; `*`, `?` and `[...]` are globs and `|` divides several, as in "
                    "`[b8:27:eb:*|dc:a6:32:*]`.",
                ),
                Item("[APPLET/HOST]", "For one applet on some machines; `[image/]` is for all of them."),
                Item("[clients]", "For clients, not read by the server."),
                (
                    "Any other section is for `INCLUDE=SECTION`, which puts its lines in its place. There may be "
                    "several; circles are refused."
                ),
            ),
        ),
    ),
    files=(CONF_FILE,),
    examples=(
        Example(
            "Another place for kernels, a strong compressor, and a command before each build:",
            "[common]\nTFTP_DIR=/var/lib/tftpboot\n\n[server]\nCOMPRESSION=zstd\nPRESET=small\nKEEP_VERSIONS=4\n"
            "PRE_IMAGE_APT=\"apt-get clean\"\nADD_IMAGE_EXCLUDES='\nopt/games\nvar/cache/*\n'",
        ),
    ),
    see_also=("ltsp(8)", "ltsp-image(8)"),
)

APPLET_PAGES = IMAGE_APPLET_PAGES | NETWORK_APPLET_PAGES
"""By name."""
