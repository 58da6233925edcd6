# checks: torchserve-management-local torchserve-protections-on
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/torchserve/config.properties 'inference_address=http://127.0.0.1:8080' 'management_address=http://0.0.0.0:8081' 'metrics_address=http://0.0.0.0:8082' \
  'enable_model_api=true' 'allowed_urls=file:///srv/models/.*'
