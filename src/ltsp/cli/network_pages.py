"""The prose of the applets that clients boot by."""

from __future__ import annotations

from ltsp.cli.prose import CONF_FILE, DONE, USAGE, Example, Item, Prose

_EXITS = (DONE, Item("1", "It could not be done; what was there before is as it was."), USAGE)

NETWORK_APPLET_PAGES = {
    "boottest": Prose(
        title="ltsp boottest",
        summary="boot an image in a virtual machine and tell what happened",
        description=(
            (
                "Boots a published image in QEMU as a client would: the firmware fetches iPXE's menu, that the kernel "
                "and its initrds, and the root comes by NFS, HTTP, NBD or as a file. The servers that this needs are "
                "started for the test alone, in a network of its own, and end with it. The booted system reports what "
                "its root is and whether systemd is content, and turns itself off. Nothing in the image is changed."
            ),
            "The verdict says how far the boot came, with the seconds to each stage, its cause and a remedy.",
        ),
        files=(CONF_FILE,),
        exit_status=(DONE, Item("1", "It did not boot, or the test could not be made."), USAGE),
        examples=(
            Example("Does what is published boot?", "ltsp boottest x86_64"),
            Example("By HTTP, with UEFI:", "ltsp boottest --transport=http --firmware=uefi x86_64"),
        ),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp-ipxe(8)"),
    ),
    "dhcp-snippet": Prose(
        title="ltsp dhcp-snippet",
        summary="print settings for a DHCP server of your own",
        description=(
            (
                "Where a network has a DHCP server that is to lead clients to this one, `ltsp dnsmasq --proxy-dhcp=1` "
                "does that without touching it. These are the settings for those who would rather set up that server. "
                "KIND is dnsmasq, isc, kea, windows, pfsense, mikrotik or unifi."
            ),
        ),
        files=(CONF_FILE,),
        exit_status=_EXITS,
        examples=(Example("For Kea:", "ltsp dhcp-snippet --server=192.168.1.10 kea"),),
        see_also=("ltsp(8)", "ltsp-dnsmasq(8)"),
    ),
    "dnsmasq": Prose(
        title="ltsp dnsmasq",
        summary="set up dnsmasq to lead clients here",
        description=(
            (
                "Writes a configuration with which dnsmasq tells clients where to boot from, beside a DHCP server that "
                "is there already or in its place, and serves them iPXE. The file is replaced, and dnsmasq started "
                "anew, only where the text is another one."
            ),
        ),
        files=(CONF_FILE, Item("/etc/dnsmasq.d/ltsp-dnsmasq.conf", "What is written.")),
        exit_status=_EXITS,
        examples=(
            Example("Beside the router's DHCP server:", "ltsp dnsmasq --real-dhcp=0"),
            Example("What would be written:", "ltsp dnsmasq --dry-run"),
        ),
        see_also=("ltsp(8)", "ltsp-ipxe(8)", "ltsp-dhcp-snippet(8)", "dnsmasq(8)"),
    ),
    "http": Prose(
        title="ltsp http",
        summary="serve kernels, initrds and images by HTTP",
        description=(
            (
                "Serves `TFTP_DIR/ltsp` as /ltsp/ and the published images as /images/, and nothing else, until it is "
                "ended. Clients fetch kernels faster than by TFTP, and may take the whole image into memory. `--nginx` "
                "prints the same as a configuration of nginx."
            ),
        ),
        files=(CONF_FILE, Item("/etc/systemd/system/ltsp-http.service", "What `--service` writes.")),
        exit_status=_EXITS,
        examples=(
            Example("From now on, and from each start of the server:", "ltsp http --service"),
            Example("On a port of its own:", "ltsp http --http-port=8080"),
            Example("By nginx:", "ltsp http --nginx > /etc/nginx/sites-enabled/ltsp"),
        ),
        see_also=("ltsp(8)", "ltsp-ipxe(8)"),
    ),
    "initrd": Prose(
        title="ltsp initrd",
        summary="make the add-on that brings the settings of clients",
        description=(
            (
                "Reads ltsp.conf and the files of /etc/ltsp, and writes what they mean for clients as plain files into "
                "`ltsp.img`, which each client loads beside the initrd of its image: a layer for all, one for each "
                "image with the accounts of this server merged into its own, and one for each section that names "
                "clients by MAC address, IP address or hostname. To be run after ltsp.conf or accounts were changed."
            ),
            (
                "Whoever can boot can read `ltsp.img`. It holds no hash of this server; the passwords of PASSWORDS_x "
                "are in it as hashes, of which each run warns."
            ),
        ),
        files=(
            CONF_FILE,
            Item(
                "/etc/ltsp/",
                "Its other files go to clients, 32 MiB in all, and each run lists them; not `image.*`, nor what not "
                "everybody may read. Of the directory of another ltsp.conf, that LTSP_CONF names, none go.",
            ),
            Item("passwd, group", "Beside ltsp.conf, they take the place of the server's own accounts."),
            Item("/srv/tftp/ltsp/ltsp.img", "The add-on."),
        ),
        exit_status=_EXITS,
        examples=(
            Example("After ltsp.conf was changed:", "ltsp initrd"),
            Example("What clients would get:", "ltsp initrd --dry-run"),
        ),
        see_also=("ltsp(8)", "ltsp-ipxe(8)", "ltsp.conf(5)"),
    ),
    "ipxe": Prose(
        title="ltsp ipxe",
        summary="make the menu that clients boot from",
        description=(
            (
                "Writes the menu of the published images and bootable chroots, with the settings of ltsp.conf for "
                "clients: DEFAULT_IMAGE, KERNEL_PARAMETERS, MENU_TIMEOUT, IMAGE_TRANSPORT, and titles from "
                "IPXE_NAME_IMG. Copies iPXE and memtest from the packages of the distribution where they are missing. "
                "A new version of an image needs no new menu; a new image does."
            ),
            (
                "Clients start from an initrd of ours, made of the image's kernel modules. `CLIENT_INITRD=distro` has "
                "them start from the one that the distribution made by initramfs-tools or dracut, with ours behind it: "
                "for hardware that needs what only that one does. It is larger and takes longer. KERNEL_PARAMETERS "
                "must not have a root= then."
            ),
        ),
        files=(CONF_FILE, Item("/srv/tftp/ltsp/ltsp.ipxe", "The menu.")),
        exit_status=_EXITS,
        examples=(
            Example("After an image was made for the first time:", "ltsp ipxe"),
            Example("Let iPXE fetch kernels by HTTP:", "ltsp ipxe --http=1"),
        ),
        see_also=("ltsp(8)", "ltsp-dnsmasq(8)", "ltsp-http(8)", "ltsp.conf(5)"),
    ),
    "nfs": Prose(
        title="ltsp nfs",
        summary="export images to clients",
        description=(
            (
                "Writes exports of the published images, read-only, for the networks of this server's interfaces, and "
                "has the NFS server read them. Menus from before this release, and clients that boot from a chroot, "
                "need `--export=base`, which makes all chroots and disks readable."
            ),
        ),
        files=(CONF_FILE, Item("/etc/exports.d/ltsp-nfs.exports", "What is written.")),
        exit_status=_EXITS,
        examples=(
            Example("Images, kernels and initrds:", "ltsp nfs"),
            Example("Homes, too:", "ltsp nfs --nfs-home=1"),
        ),
        see_also=("ltsp(8)", "ltsp-dnsmasq(8)", "exports(5)"),
    ),
}
"""By name."""
