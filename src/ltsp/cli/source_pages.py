"""The prose of ltsp-image(8) on image sources."""

from __future__ import annotations

from ltsp.cli.prose import Block, Item

SOURCE_SECTIONS: tuple[tuple[str, tuple[Block, ...]], ...] = (
    (
        "IMAGE SOURCES",
        (
            ("A source is a name or a path. A name is looked up in the base directory; the first of these is used:"),
            Item("NAME/", "A chroot: a directory that contains `usr` or `proc`."),
            Item("NAME.img", "The disk of a virtual machine, a live medium, or a squashfs file."),
            Item("images/NAME.img", "An exported image, which is rebuilt from its original source."),
            (
                "A path begins with a slash or a dot; a name is never looked up in the working directory. The last "
                "part of a path, without a suffix such as `.vmdk` or `.tar.gz`, names the image: `./debian-flat.vmdk` "
                "becomes `debian-flat`. A warning reports if an image was made from another source before. "
                "`/` is the running system, and the image is named after the architecture, such as x86_64; its local "
                "file systems on `/boot`, `/usr`, `/var` and the like are included and listed."
            ),
            (
                "A source may consist of several parts, separated by two commas, each with options "
                "after single commas, in any order; `subdir=` is the directory for a part."
            ),
            (
                "A root file system has `/etc/passwd`, and `/usr` or `/proc`. In the image, `/` has mode 0755 and "
                "belongs to root, whatever its mode and owner in the source, even with `--cleanup=0`; "
                "its time and SELinux label are kept. Empty directories that copies often lack are "
                "created: `/dev`, `/proc`, `/run`, `/sys`, `/tmp` and the like."
            ),
        ),
    ),
    (
        "DISKS",
        (
            (
                "The disk of a virtual machine that is shut down is a source, in any of these formats: raw, qcow2, "
                "VMDK, VDI, VHD, VHDX, and any of these compressed with gzip, bzip2, xz or zstd. A block device, such "
                "as the logical volume of a virtual machine, is one too. The format is detected from "
                "the contents, not the name. Partitions, LVM and RAID1 are searched for a system on ext2, ext3, ext4, "
                "xfs, btrfs or ISO 9660, and the file systems that its /etc/fstab mounts at `/boot`, `/usr`, `/var` "
                "and the like are included. Without an entry in fstab, the partition types of the GPT apply: the "
                "extended boot loader partition or EFI system partition for `/boot` or `/efi`, and those for `/usr` "
                "and `/var`."
            ),
            (
                "For an ostree system, such as Silverblue or CoreOS, the default deployment is used, with the "
                "`/var` that all deployments share; `FILE,subvol=ostree/deploy/OS/deploy/HASH.0` selects another one."
            ),
            (
                "From a live medium, the system in it is used, even if that is a file inside another file, or several "
                "layers, as in Ubuntu since 23.10: then the system that its installer installs by "
                "default. If that system has no kernel, the medium's kernel is used, with its modules if the medium "
                "has them. `--kernel-initrd` may be a path on the medium."
            ),
            (
                "Disks are read by a sandboxed process, which mounts nothing and does not run as root: a malicious "
                "file system can do no harm. A journal of ext4 is replayed in memory; nothing is ever written to the "
                "disk."
            ),
            (
                "What that process cannot read is mounted by the kernel, if ltsp runs as root: erofs, "
                "f2fs, a log of xfs or btrfs to be replayed, newer features of file systems. "
                "The mount is invisible to other programs, and ends with the command. A volume that is not one piece "
                "of a raw disk, or that has a log, is first copied to TMPDIR or `/var/tmp`. `--reader=user` never "
                "mounts; `--reader=kernel` mounts every volume."
            ),
            Item(
                "FILE,disk=SECOND",
                "For a system on several disks, such as an LVM volume group. A SECOND that begins with neither / nor . "
                "is in the directory of the first disk; repeat `,disk=` for a third one.",
            ),
            Item(
                "FILE,partition=N",
                "One of several systems on a disk: a number, or a name such as `vg/root`; with several disks, `2:1` is "
                "the first partition of the second disk.",
            ),
            Item(
                "FILE,,casper/NAME.squashfs",
                "Another system of a live medium: this file and the layers below it according to its name, such as "
                "`minimal.squashfs` for `minimal.standard.squashfs`.",
            ),
            Item(
                "FILE,,arch/x86_64/airootfs.sfs",
                "The file of the system, on a medium with an unknown layout.",
            ),
            Item("FILE,subvol=NAME", "A btrfs subvolume, if it is not one that installers create."),
            Item("FILE,fstype=TYPE", "Use this file system type, instead of detecting it."),
            (
                "Encrypted volumes (LUKS) are opened with the key in the file given by `--key-file`. This "
                "needs cryptsetup(8), but neither root nor device-mapper. Detached "
                "headers, integrity, and ciphers other than AES in XTS or CBC are not supported: unlock and mount such "
                "a volume, and give the directory."
            ),
            (
                "Other files that a disk refers to, such as a backing file, are only read from its own directory, "
                "or from those given by `--allow-backing`. If a program has a disk open for writing, that is an error, "
                "which names the program."
            ),
        ),
    ),
    (
        "ARCHIVES AND CONTAINERS",
        (
            (
                "A tar archive of a root file system is a source like a directory, uncompressed or compressed with "
                "gzip, bzip2, xz or zstd, whatever its name; so is one of a container image. Owners, devices and "
                "attributes are taken from the archive, without root privileges. Only compressed archives, and those "
                "from a pipe, are unpacked, to `/var/tmp` or TMPDIR, while the image is made."
            ),
            (
                "Exports of LXC and Incus have the root file system in `rootfs`, as a directory, tar, squashfs file or "
                "volume, and that is used. The disk of a virtual machine in an archive, such as an OVA, a Vagrant box "
                "or the `disk.raw` of a cloud image, is copied to `/var/tmp` or TMPDIR and read from there; "
                "`FILE,,DISK` selects one of several."
            ),
            Item("-", "An archive from standard input; `--name` gives the name of the image."),
            Item("oci:DIR[:TAG]", "A directory in OCI image layout."),
            Item("oci-archive:FILE[:TAG]", "The same, as a tar archive."),
            Item("docker-archive:FILE[:TAG]", "The output of `docker save` and `podman save`."),
            Item(
                "docker://HOST/NAME:TAG",
                "An image in a registry. It is fetched by skopeo(1), with its configured credentials.",
            ),
            (
                "The last part of the path names the image. TAG is needed if there are several images; of "
                "a multi-platform image, the one for this machine is used. Every layer is checked against its "
                "digest. Container images rarely have a kernel and an init: if one is missing, the message shows the "
                "command that installs it, for the Containerfile."
            ),
        ),
    ),
    (
        "WITHOUT ROOT",
        (
            (
                "An ordinary user, or root of an unprivileged container, makes the same image as root from a disk, an "
                "archive, a container image or a squashfs file, owners and devices included. Give directories that "
                "the user may write to: `ltsp --base-dir=$HOME/ltsp --tftp-dir=$HOME/tftp image ...`. Files of a "
                "directory that the user may not read are left out, named and counted, with exit status 3; "
                "`--all-root` gives all files to root. Serving images, and boot tests over the network, need root."
            ),
        ),
    ),
)
