# checks: nvidia-capability-files-limited
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# What the driver tells of its capabilities, in its form (synthetic), and their files.
mkdir -p /dev/nvidia-caps
for capability in mig/config:1 mig/monitor:2; do
  minor=${capability#*:}
  put "/srv/capabilities/${capability%:*}" "DeviceFileMinor: $minor" 'DeviceFileMode: 256' 'DeviceFileModify: 1'
  mknod "/dev/nvidia-caps/nvidia-cap$minor" c 1 3 2>/dev/null || touch "/dev/nvidia-caps/nvidia-cap$minor"
  chmod 666 "/dev/nvidia-caps/nvidia-cap$minor"
done
