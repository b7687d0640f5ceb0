"""The prose of the network applets."""

from __future__ import annotations

from ltsp.cli.prose import CONF_FILE, DONE, USAGE, Example, Item, Prose

_EXITS = (DONE, Item("1", "Failure; nothing was changed."), USAGE)

NETWORK_APPLET_PAGES = {
    "boottest": Prose(
        title="ltsp boottest",
        summary="boot an image in a virtual machine and report the result",
        description=(
            (
                "Boots a published image in QEMU like a client: the firmware fetches the iPXE menu, iPXE the kernel "
                "and initrds, and the root file system comes over NFS, HTTP, NBD or as a file. The necessary servers "
                "are started only for the test, in a separate network, and stopped after it. The booted system "
                "reports its root file system and the state of systemd, and powers off. The image is not changed."
            ),
            "The verdict shows the time of each stage in seconds; after a failure, also the cause and a remedy.",
        ),
        files=(CONF_FILE,),
        exit_status=(DONE, Item("1", "It did not boot, or the test could not be run."), USAGE),
        examples=(
            Example("Test whether the current version boots:", "ltsp boottest x86_64"),
            Example("Over HTTP, with UEFI:", "ltsp boottest --transport=http --firmware=uefi x86_64"),
        ),
        see_also=("ltsp(8)", "ltsp-image(8)", "ltsp-ipxe(8)"),
    ),
    "dhcp-snippet": Prose(
        title="ltsp dhcp-snippet",
        summary="print settings for an existing DHCP server",
        description=(
            (
                "If a network already has a DHCP server, `ltsp dnsmasq --proxy-dhcp=1` makes clients boot from this "
                "server without changing that one. This prints the settings for changing that DHCP server instead. "
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
        summary="configure dnsmasq to boot clients from this server",
        description=(
            (
                "Writes a configuration with which dnsmasq tells clients where to boot from, next to an existing DHCP "
                "server or instead of one, and serves iPXE to them. The file is replaced, and dnsmasq restarted, "
                "only if the text changes."
            ),
        ),
        files=(CONF_FILE, Item("/etc/dnsmasq.d/ltsp-dnsmasq.conf", "The configuration.")),
        exit_status=_EXITS,
        examples=(
            Example("Next to the router's DHCP server:", "ltsp dnsmasq --real-dhcp=0"),
            Example("Show what would be written:", "ltsp dnsmasq --dry-run"),
        ),
        see_also=("ltsp(8)", "ltsp-ipxe(8)", "ltsp-dhcp-snippet(8)", "dnsmasq(8)"),
    ),
    "http": Prose(
        title="ltsp http",
        summary="serve kernels, initrds and images over HTTP",
        description=(
            (
                "Serves `TFTP_DIR/ltsp` as /ltsp/ and the published images as /images/, and nothing else, until it is "
                "stopped. Clients fetch kernels faster than over TFTP, and can load the whole image into memory. "
                "`--nginx` prints an equivalent configuration of nginx."
            ),
        ),
        files=(CONF_FILE, Item("/etc/systemd/system/ltsp-http.service", "The unit that `--service` writes.")),
        exit_status=_EXITS,
        examples=(
            Example("Start it now and at boot:", "ltsp http --service"),
            Example("On another port:", "ltsp http --http-port=8080"),
            Example("With nginx:", "ltsp http --nginx > /etc/nginx/sites-enabled/ltsp"),
        ),
        see_also=("ltsp(8)", "ltsp-ipxe(8)"),
    ),
    "initrd": Prose(
        title="ltsp initrd",
        summary="generate the add-on initrd with the clients' settings",
        description=(
            (
                "Reads ltsp.conf and the files of /etc/ltsp, and writes the settings of clients as plain files into "
                "`ltsp.img`, which each client loads together with the initrd of its image: a layer for all clients, "
                "one for each image with the server's accounts merged into its own, and one for each section for "
                "a MAC address, IP address or hostname. Run it after changes to ltsp.conf or accounts."
            ),
            (
                "Everyone who can boot a client can read `ltsp.img`. It contains no password hash of the server; the "
                "passwords of PASSWORDS_x are in it as hashes, about which each run warns."
            ),
        ),
        files=(
            CONF_FILE,
            Item(
                "/etc/ltsp/",
                "Clients also get its other files, up to 32 MiB, and each run lists them; except `image.*`, and files "
                "that are not readable by everyone. If LTSP_CONF is in another directory, they get none.",
            ),
            Item("passwd, group", "Next to ltsp.conf, they replace the server's own accounts."),
            Item("/srv/tftp/ltsp/ltsp.img", "The add-on."),
        ),
        exit_status=_EXITS,
        examples=(
            Example("After a change to ltsp.conf:", "ltsp initrd"),
            Example("Show what clients would get:", "ltsp initrd --dry-run"),
        ),
        see_also=("ltsp(8)", "ltsp-ipxe(8)", "ltsp.conf(5)"),
    ),
    "ipxe": Prose(
        title="ltsp ipxe",
        summary="generate the boot menu of clients",
        description=(
            (
                "Writes the menu of the published images and bootable chroots, with the settings of ltsp.conf for "
                "clients: DEFAULT_IMAGE, KERNEL_PARAMETERS, MENU_TIMEOUT, IMAGE_TRANSPORT, and titles from "
                "IPXE_NAME_IMG. Copies iPXE and memtest from the distribution's packages if they are missing. "
                "A new version of an image needs no new menu; a new image does."
            ),
            (
                "Clients boot an initrd made by `ltsp image` from the image's kernel modules. With "
                "`CLIENT_INITRD=distro` they boot the distribution's own initrd (initramfs-tools or dracut), followed "
                "by that of ltsp, for hardware that needs it. This is larger and slower, and KERNEL_PARAMETERS must "
                "not contain root=."
            ),
        ),
        files=(CONF_FILE, Item("/srv/tftp/ltsp/ltsp.ipxe", "The menu.")),
        exit_status=_EXITS,
        examples=(
            Example("After an image was published for the first time:", "ltsp ipxe"),
            Example("Let iPXE fetch kernels over HTTP:", "ltsp ipxe --http=1"),
        ),
        see_also=("ltsp(8)", "ltsp-dnsmasq(8)", "ltsp-http(8)", "ltsp.conf(5)"),
    ),
    "nfs": Prose(
        title="ltsp nfs",
        summary="export images to clients",
        description=(
            (
                "Writes read-only exports of the published images for the networks of this server's interfaces, and "
                "makes the NFS server reload them. Menus of earlier releases, and clients that boot from a chroot, "
                "need `--export=base`, which makes all chroots and disks readable."
            ),
        ),
        files=(CONF_FILE, Item("/etc/exports.d/ltsp-nfs.exports", "The configuration.")),
        exit_status=_EXITS,
        examples=(
            Example("Images, kernels and initrds:", "ltsp nfs"),
            Example("Also home directories:", "ltsp nfs --nfs-home=1"),
        ),
        see_also=("ltsp(8)", "ltsp-dnsmasq(8)", "exports(5)"),
    ),
}
"""By name."""
