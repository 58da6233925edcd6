# checks: legacy-clients-absent packages-held-on-purpose
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# A repository of this host: telnet, and a tool of two versions.
mkdir -p /srv/repository
cd /srv/repository
: > Packages
for package in telnet:0.17 site-tool:1.0 site-tool:2.0; do
  folder=$(mktemp -d)
  put "$folder/DEBIAN/control" "Package: ${package%:*}" "Version: ${package#*:}" 'Architecture: all' 'Maintainer: nobody <root@localhost>' 'Description: nothing'
  dpkg-deb --build -Znone "$folder" "${package%:*}_${package#*:}_all.deb" >/dev/null
done
for file in *.deb; do
  { dpkg-deb -f "$file"; echo "Filename: ./$file"; echo "Size: $(stat -c %s "$file")"; echo "SHA256: $(sha256sum "$file" | cut -d' ' -f1)"; echo; } >> Packages
done
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list
apt-get -q update >/dev/null 2>&1
dpkg -i telnet_0.17_all.deb site-tool_1.0_all.deb >/dev/null
apt-mark hold site-tool >/dev/null
