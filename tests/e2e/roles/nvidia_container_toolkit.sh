# checks: nvidia-container-features-safe nvidia-container-gpus-not-chosen-by-image nvidia-container-ldconfig-from-host
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/nvidia-container-runtime/config.toml 'accept-nvidia-visible-devices-envvar-when-unprivileged = true' '' '[nvidia-container-cli]' \
  'ldconfig = "/sbin/ldconfig"' 'load-kmods = true' '' '[features]' 'allow-cuda-compat-libs-from-container = true' ''
