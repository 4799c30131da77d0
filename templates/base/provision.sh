# Runs as root inside the new root filesystem, without a network, after the files are in place.
set -eu

# The user that commands run as.
groupadd --gid 1000 user
useradd --uid 1000 --gid user --groups sudo --create-home --skel /etc/skel \
    --shell /bin/bash user
cp /etc/skel/.bashrc /etc/skel/.profile /root/

# `sudo` and the guest daemon are one program; set-user-ID bits are not honoured in a sandbox.
ln -sfn /usr/local/bin/courier-guest /usr/bin/sudo
find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# A sandbox is disposable: packages may go where the user likes.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED

# A `/tmp` that is empty in the image would live in memory instead of on the sandbox's disk.
chmod 1777 /tmp /var/tmp
touch /tmp/.keep

# Nothing of the machine that built this, and nothing that a sandbox does not need.
: > /etc/machine-id
rm -rf /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap \
    /etc/dpkg/dpkg.cfg.d/99mmdebstrap /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* \
    /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/* /var/tmp/* /run/* /boot/* \
    /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/lintian /etc/*- /root/.cache \
    /etc/ssh/ssh_host_*
mkdir -p /var/log/apt /var/cache/apt/archives/partial /var/lib/apt/lists/partial
