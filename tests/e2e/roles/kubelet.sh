# checks: kubelet-certificates-renewed kubelet-kernel-settings-guarded kubelet-read-only-port-closed kubelet-seccomp-default-on
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/play/kubelet 'Kubernetes v1.34.2'
sed "1s|.*|#!/usr/bin/python3|" /usr/local/lib/play > /usr/local/bin/kubelet
chmod 755 /usr/local/bin/kubelet
put /var/lib/kubelet/config.yaml 'apiVersion: kubelet.config.k8s.io/v1beta1' 'kind: KubeletConfiguration' 'readOnlyPort: 10255' 'seccompDefault: false' \
  'protectKernelDefaults: false' 'rotateCertificates: false'
put /etc/systemd/system/kubelet.service '[Service]' 'ExecStart=/usr/local/bin/kubelet --config=/var/lib/kubelet/config.yaml'
systemctl daemon-reload
systemctl restart kubelet
