# checks: slurm-devices-constrained slurm-jobs-private slurm-root-jobs-refused slurm-srun-ports-bounded
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
for folder in /var/lib/slurm/slurmctld /var/spool/slurmd /var/log/slurm; do mkdir -p $folder; chown slurm $folder; done
put /etc/slurm/slurm.conf ClusterName=lab "SlurmctldHost=$(hostname)" SlurmUser=slurm AuthType=auth/munge ProctrackType=proctrack/linuxproc \
  TaskPlugin=task/none SlurmdSpoolDir=/var/spool/slurmd StateSaveLocation=/var/lib/slurm/slurmctld SlurmctldPidFile=/run/slurmctld.pid \
  SlurmdPidFile=/run/slurmd.pid ReturnToService=2 PrivateData=jobs DisableRootJobs=no "NodeName=$(hostname) CPUs=1 State=UNKNOWN" \
  'PartitionName=main Nodes=ALL Default=YES State=UP'
put /etc/slurm/cgroup.conf CgroupPlugin=cgroup/v1 ConstrainDevices=no
systemctl start munge
systemctl restart slurmctld slurmd
