# checks: mlflow-asks-for-login torchserve-management-local torchserve-protections-on training-dashboards-ask-for-login
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/torchserve/config.properties 'inference_address=http://127.0.0.1:8080' 'management_address=http://0.0.0.0:8081' 'metrics_address=http://0.0.0.0:8082' \
  'enable_model_api=true' 'allowed_urls=file:///srv/models/.*'
# Players of two services, as units that a site may have; each listens where its environment says.
package_at /opt/mlflow mlflow 99.0
for unit in mlflow:/opt/mlflow/bin/mlflow:5000:server aim:/opt/aim/bin/aim:43800:up; do
  IFS=: read -r name program port word <<< "$unit"
  mkdir -p "${program%/*}"
  sed "1s|.*|#!$(interpreter "${program%/*}")|" /usr/local/lib/play > "$program"
  chmod 755 "$program"
  put "/etc/systemd/system/$name.service" '[Service]' "Environment=LISTEN=tcp|0.0.0.0|$port" "ExecStart=$program $word"
done
systemctl daemon-reload
systemctl restart mlflow aim
