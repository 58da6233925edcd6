# SPDX-License-Identifier: Apache-2.0
#
# What the commands of flips.yaml are made of; run by bash on the hosts. `check` is the id of the check at hand.
set -eu
umask 022
trap 'test $? = 0 || echo "the commands of $check failed" >&2' EXIT
check=setup

HASH='$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/'  # of `password`
SHORT_RSA='ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDl17DbFv5DkPlsYn5a0mBxVqWjk5p7jmn2Q7MFxZaYhP+ryt2jkEmWU0cYom6CZJ+v2DZencmtQroiQZ2QEuoT6AaCOfRAy0rtYsvt2h6Y9uEW114dZzgvIZ2g0pR9PaDIMNtMRyXjsN2P+rki9bUy5p9KXT6QDm4I9DViu1513w== short'
PRIVATE_KEY='-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
-----END OPENSSH PRIVATE KEY-----'
AUDIT_ACCOUNTS='-w /etc/passwd -p wa
-w /etc/shadow -p wa
-w /etc/group -p wa
-w /etc/gshadow -p wa
-w /etc/sudoers -p wa
-w /etc/sudoers.d -p wa'
AUDIT_CALLS='-a always,exit -F arch=b64 -S init_module,finit_module,delete_module,adjtimex,settimeofday,clock_settime -F key=calls'
CONTAINER=4f7e1f8a9d4e2c1b6a5d3e8f7c9b0a1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b
DOCKER=/var/lib/docker/containers/$CONTAINER
TASK=/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/$CONTAINER

# put FILE LINE...: a file of these lines, with its folders.
put() {
    mkdir -p "${1%/*}"
    printf '%s\n' "${@:2}" > "$1"
}

# repository PACKAGE:VERSION[:FIELD]...: apt knows these packages, made here, and no others.
repository() {
    rm -rf /srv/repository
    mkdir -p /srv/repository
    : > /srv/repository/Packages
    for package in "$@"; do
        IFS=: read -r name version field <<< "$package"
        folder=$(mktemp -d)
        put "$folder/DEBIAN/control" "Package: $name" "Version: $version" 'Architecture: all' 'Maintainer: nobody <root@localhost>' \
            ${field:+"$field"} 'Description: nothing'
        put "$folder/usr/share/$name/version" "$version"
        file=/srv/repository/${name}_${version}_all.deb
        dpkg-deb --build -Znone "$folder" "$file" >/dev/null
        { dpkg-deb -f "$file"; echo "Filename: ./${file##*/}"; echo "Size: $(stat -c %s "$file")"; echo "SHA256: $(sha256sum "$file" | cut -d' ' -f1)"
          echo; } >> /srv/repository/Packages
    done
    rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
    echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list
    apt-get -q update >/dev/null 2>&1
}

# edit FILE CODE: change a JSON document `d`.
edit() {
    python3 -c 'import json, os, sys
path, code = sys.argv[1:]
d = json.load(open(path)) if os.path.exists(path) else {}
exec(code)
json.dump(d, open(path, "w"))' "$@"
}

# sshd LINE...: settings of sshd that win over all others; the first value counts.
sshd() { put "/etc/ssh/sshd_config.d/00-$check.conf" "$@"; }

unset_sshd() { rm -f "/etc/ssh/sshd_config.d/00-$check.conf"; }

# sudoers LINE...: rules of sudo.
sudoers() {
    put "/etc/sudoers.d/$check" "$@"
    chmod 440 "/etc/sudoers.d/$check"
}

# --- Programs ---------------------------------------------------------------------------------------

# stop NAME: end what `play`, `run` or `serve` started.
stop() { systemctl stop "play-$1.service" 2>/dev/null || :; }

# serve NAME PROGRAM [WORD...]: run a program as a service; returns when it runs.
serve() { serve_as root exec "$@"; }

serve_as() { # USER TYPE NAME PROGRAM [WORD...]
    stop "$3"
    systemd-run --quiet --collect --unit="play-$3" --uid="$1" --property=Type="$2" --setenv=LISTEN="${listen:-}" \
        --setenv=RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}" "${@:4}"
}

# play NAME PLACES PROGRAM [WORD...]: a script of this path, named as Python's console scripts are, that waits and
# listens where PLACES says, such as 'tcp|0.0.0.0|80', or `-`: nowhere.
play() { play_as root "$@"; }

play_as() { # USER NAME PLACES PROGRAM [WORD...]
    mkdir -p "${4%/*}"
    sed "1s|.*|#!$(interpreter "${4%/*}")|" /usr/local/lib/play > "$4"
    chmod 755 "$4"
    listen=${3#-} serve_as "$1" notify "$2" "${@:4}"
}

# interpreter FOLDER: Python as a script in this folder names it.
interpreter() { test -e "$1/python3" && echo "$1/python3" || echo /usr/bin/python3; }

# run NAME PROGRAM [PLACES]: the same by a binary of this path, a copy of Python's.
run() {
    mkdir -p "${2%/*}"
    stop "$1"
    cp --remove-destination "$(readlink -f /usr/bin/python3)" "$2"
    listen=${3:-} serve_as root notify "$1" "$2" /usr/local/lib/play
}

# unix_socket PATH
unix_socket() { python3 -c 'import os, socket, sys
os.path.exists(sys.argv[1]) or socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$1"; }

# --- Packages ---------------------------------------------------------------------------------------

# install NAME VERSION: an empty package, by dpkg itself.
install() {
    if [ "$(dpkg-query -W -f '${Version} ${db:Status-Status}' "$1" 2>/dev/null || :)" != "$2 installed" ]; then
        folder=$(mktemp -d)
        put "$folder/$1/DEBIAN/control" "Package: $1" "Version: $2" 'Architecture: all' 'Maintainer: nobody <root@localhost>' 'Description: nothing'
        dpkg-deb --build -Znone "$folder/$1" >/dev/null
        dpkg --force-depends -i "$folder/$1.deb" >/dev/null 2>&1
        rm -r "$folder"
    fi
}
remove() { dpkg --purge "$1" >/dev/null 2>&1 || :; }
hold() { echo "$1 hold" | dpkg --set-selections; }
release() { echo "$1 install" | dpkg --set-selections; }

# package_at PREFIX NAME VERSION: a package of Python, as pip leaves it.
package_at() {
    folder=$1/lib/python3.11/site-packages
    rm -rf "$folder"/*.dist-info
    mkdir -p "$1/bin"
    ln -sf /usr/bin/python3 "$1/bin/python3"
    put "$folder/$2-$3.dist-info/METADATA" 'Metadata-Version: 2.1' "Name: $2" "Version: $3"
}

# --- Configuration ----------------------------------------------------------------------------------

# auditctl NAME NUMBER: what the player of auditctl says.
auditctl() { sed -i "s/^$1 .*/$1 $2/" /etc/play/auditctl-s; }

# daemon KEY VALUE: a setting of docker's daemon, in Python's words.
daemon() {
    mkdir -p /etc/docker
    edit /etc/docker/daemon.json "d[\"$1\"] = $2"
}

# kubelet KEY: VALUE
kubelet() {
    sed -i "/^$1/d" /var/lib/kubelet/config.yaml
    echo "$1 $2" >> /var/lib/kubelet/config.yaml
}

# slurm FILE KEY [VALUE]
slurm() {
    sed -i "/^$2=/d" "/etc/slurm/$1"
    test -z "${3:-}" || echo "$2=$3" >> "/etc/slurm/$1"
}

# torchserve KEY VALUE
torchserve() {
    put "/etc/torchserve/$1.properties" 'inference_address=http://127.0.0.1:8080' "$1=$2"
    grep -q allowed_urls "/etc/torchserve/$1.properties" || echo 'allowed_urls=file:///srv/models/.*' >> "/etc/torchserve/$1.properties"
}

# pro_client: players of Ubuntu Pro's client, which keeps its state in the file that the audit reads, and of Livepatch's.
pro_client() {
    put /usr/bin/pro '#!/usr/bin/python3' 'import json, os, sys' 'path = "/var/lib/ubuntu-advantage/status.json"' 'd, words = json.load(open(path)), sys.argv[1:]' \
        'if words[0] == "status": sys.exit(print(json.dumps(d)))' \
        'if words[0] == "attach": sys.exit("no token") if "token: C1-of-lab" not in sys.stdin.read() else d.update(attached=True)' \
        'if words[0] == "detach": d.update(attached=False)' \
        'for s in d["services"]: s["status"] = {"enable": "enabled", "disable": "disabled"}.get(words[0], s["status"]) if s["name"] in words else s["status"]' \
        'token = "/var/lib/ubuntu-advantage/machine-token.json"' \
        'json.dump({}, open(token, "w")) if words[0] == "attach" else os.unlink(token) if words[0] == "detach" else None' \
        'json.dump(d, open(path, "w"))'
    put /usr/bin/canonical-livepatch '#!/bin/sh' 'pro status | grep -q "\"livepatch\"[^}]*\"enabled\"" || { echo "Machine is not enabled." >&2; exit 1; }' \
        "echo '{\"Client-Version\": \"10.11.1\", \"Status\": []}'"
    chmod 755 /usr/bin/pro /usr/bin/canonical-livepatch
    put /var/lib/ubuntu-advantage/machine-token.json '{}'
    sleep 0.1
    test -e /var/lib/ubuntu-advantage/status.json || put /var/lib/ubuntu-advantage/status.json '{"attached": true, "services": [
        {"name": "esm-infra", "available": "yes", "entitled": "yes", "status": "disabled"},
        {"name": "esm-apps", "available": "yes", "entitled": "yes", "status": "disabled"},
        {"name": "livepatch", "available": "yes", "entitled": "yes", "status": "disabled"}]}'
}

munge_key() {
    mkdir -p /etc/munge
    chmod 700 /etc/munge
    chown nobody /etc/munge
    head -c "$1" /dev/zero > /etc/munge/munge.key
}

# A container's devices, capabilities, namespaces and mounts.
all_devices() { edit "$TASK/config.json" "d['linux']['resources']['devices'][0]['allow'] = $1"; }
capabilities() { edit "$TASK/config.json" "d['process']['capabilities']['$1'] = '${*:2}'.split()"; } # SET [NAME...]
node_namespace() { edit "$TASK/config.json" "d['linux']['namespaces'] = [n for n in d['linux']['namespaces'] if n['type'] != '$1']"; }
own_namespace() {
    node_namespace "$1"
    edit "$TASK/config.json" "d['linux']['namespaces'].append({'type': '$1'})"
}
unbound() { edit "$TASK/config.json" "d['mounts'] = [m for m in d['mounts'] if m['source'] != '$1']"; }
bound() {
    unbound "$1"
    edit "$TASK/config.json" "d['mounts'].append({'type': 'bind', 'source': '$1', 'destination': '/x', 'options': ['rbind', 'ro']})"
}

# --- The host ---------------------------------------------------------------------------------------

# temporary: the folders for temporary files that are mounts.
temporary() { for folder in /tmp /var/tmp /dev/shm; do mountpoint -q "$folder" && echo "$folder" || :; done; }

# address: the host's address in the lab.
address() { hostname -I | tr ' ' '\n' | grep -m1 '^198\.18\.'; }
