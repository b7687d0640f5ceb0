"""The prose of ltsp-image(8) on what images are made from."""

from __future__ import annotations

from ltsp.cli.prose import Block, Item

SOURCE_SECTIONS: tuple[tuple[str, tuple[Block, ...]], ...] = (
    (
        "IMAGE SOURCES",
        (
            (
                "A source is a name or a path. A name is looked up below the base directory, and the first of "
                "these is taken:"
            ),
            Item("NAME/", "A chroot: a directory that holds `usr` or `proc`."),
            Item("NAME.img", "The disk of a virtual machine, a live medium, or a squashfs file."),
            Item("images/NAME.img", "An exported image: it is built anew from the source it came from."),
            (
                "A path begins with a slash or a dot; a name is never looked up in the working directory. The last "
                "part of a path, without a suffix such as `.vmdk` or `.tar.gz`, names the image: `./debian-flat.vmdk` "
                "is `debian-flat`. Where an image was made from another source before, that is said before the work. "
                "`/` is the running system, and the name is then the machine's, such as x86_64; its local file systems "
                "for `/boot`, `/usr`, `/var` and the like are taken in, and what is taken in is printed."
            ),
            (
                "A source may be laid together of several parts, divided by two commas, each with options "
                "behind single commas, in any order; `subdir=` says where a part goes."
            ),
            (
                "A root file system has `/etc/passwd`, and `/usr` or `/proc`. In the image `/` has mode 0755 and "
                "belongs to root, whatever the directory, disk or archive was like, and so it is with `--cleanup=0`; "
                "its time stays, and its SELinux label. Directories that copies come without, as they are empty, are "
                "made: `/dev`, `/proc`, `/run`, `/sys`, `/tmp` and the like."
            ),
        ),
    ),
    (
        "DISKS",
        (
            (
                "The disk of a virtual machine that is shut down is a source, whatever its format: raw, qcow2, VMDK, "
                "VDI, VHD, VHDX, and any of these in gzip, xz or zstd. What is in it decides, not its name. "
                "Partitions, LVM and RAID1 are looked through for a system on ext2, ext3, ext4, xfs, btrfs or "
                "ISO 9660, and what the system's own /etc/fstab mounts at `/boot`, `/usr`, `/var` and the like is "
                "taken in. So is what fstab leaves out and a partition's type in the GPT says: an extended boot loader "
                "partition or the EFI system partition for `/boot` or `/efi`, and those for `/usr` and `/var`."
            ),
            (
                "Of an ostree system, such as Silverblue or CoreOS, the deployment that boots is taken, with the "
                "`/var` that all deployments share; `FILE,subvol=ostree/deploy/OS/deploy/HASH.0` takes another one."
            ),
            (
                "A live medium stands for the system in it, also where that is a file in a file, or files that lie "
                "over each other, as Ubuntu's do since 23.10: then for the system that its installer takes by "
                "default. Where that system has no kernel, the medium's comes with it, and its modules, if the medium "
                "has them. `--kernel-initrd` may name a path on the medium."
            ),
            (
                "Disks are read by a process that may do nothing else: no mount, no root, and a file system made to do "
                "harm does it there. A journal of ext4 is replayed in memory; nothing is ever written to the disk."
            ),
            (
                "What that process does not read is mounted by the kernel, where the command is run as root: erofs, "
                "f2fs, a log of xfs or btrfs that has to be replayed, features of file systems that are newer than it. "
                "The mount is in no namespace, and gone with the command. A volume that is not one piece of a raw "
                "disk, or that has a log, is copied for it to TMPDIR or `/var/tmp`. `--reader=user` never mounts; "
                "`--reader=kernel` mounts every volume."
            ),
            Item(
                "FILE,disk=SECOND",
                "The system lies on several disks, such as a volume group of LVM. What begins with neither / nor . "
                "lies beside the first disk; a third one is one more `,disk=`.",
            ),
            Item(
                "FILE,partition=N",
                "One of several systems on it: a number, or a name such as `vg/root`; with several disks, `2:1` is "
                "the first partition of the second.",
            ),
            Item(
                "FILE,,casper/NAME.squashfs",
                "Another system of a live medium: this file and those that its name says it lies over, "
                "`minimal.standard.squashfs` over `minimal.squashfs`.",
            ),
            Item(
                "FILE,,arch/x86_64/airootfs.sfs",
                "The file of the system on a medium whose layout is not known here.",
            ),
            Item("FILE,subvol=NAME", "A subvolume of btrfs, where it is none that an installer makes."),
            Item("FILE,fstype=TYPE", "Its file system is of this type, whatever it looks like."),
            (
                "Encrypted volumes (LUKS) are opened by the key in the file that `--key-file` names. It is asked of "
                "cryptsetup(8), which has to be installed; neither root nor device-mapper is needed. Detached "
                "headers, integrity, and other ciphers than AES in XTS or CBC cannot be read: unlock and mount such a "
                "volume, and name the directory."
            ),
            (
                "Other files that a disk names, such as a backing file, are read where they lie in its own directory, "
                "or below one that `--allow-backing` names. A disk that a program has open for writing is refused by "
                "that program's name."
            ),
        ),
    ),
    (
        "ARCHIVES AND CONTAINERS",
        (
            (
                "A tar archive of a root file system is a source like a directory, compressed by gzip, bzip2, "
                "xz or zstd or not, whatever its name; so is one of a container image. Owners, devices and "
                "attributes are those of the archive: no root is needed, and nothing is unpacked but what is "
                "compressed or comes through a pipe, below `/var/tmp` or TMPDIR, while the image is made."
            ),
            (
                "What LXC and Incus export has the root in `rootfs`, in a directory, a tar, a squashfs file or a "
                "volume, and that is taken. The disk of a virtual machine in an archive, as in an OVA, a box of "
                "Vagrant or the `disk.raw` of a cloud's image, is copied out of it to `/var/tmp` or TMPDIR and read; "
                "of several, `FILE,,DISK` names one."
            ),
            Item("-", "An archive from standard input; `--name` names the image."),
            Item("oci:DIR[:TAG]", "A directory that is an OCI layout."),
            Item("oci-archive:FILE[:TAG]", "The same as a tar archive."),
            Item("docker-archive:FILE[:TAG]", "What `docker save` and `podman save` write."),
            Item(
                "docker://HOST/NAME:TAG",
                "An image in a registry. It is fetched by skopeo(1), with the logins that are set up for that.",
            ),
            (
                "The last part of the path names the image. TAG is needed where there are several images; of "
                "one for several machines, that for this machine is taken. Every layer is checked against its "
                "digest. Images of containers rarely have a kernel and an init: where one is missing, what "
                "installs it is said, to be put into the Containerfile."
            ),
        ),
    ),
)
