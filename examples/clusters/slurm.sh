#!/bin/bash
#SBATCH --job-name=digits
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM comes five minutes before the end of the time: the run saves a checkpoint and ends. When the job is queued
# again, by `scontrol requeue` or after a host has failed, it resumes the run.
set -euo pipefail
run=runs/digits
if [ -e "$run/checkpoints/last.safetensors" ]; then
    command=(resume "$run")
else
    command=(train run.toml --run-dir "$run")
fi
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
srun argus "${command[@]}" --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node 8 --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "${hosts[0]}:29500" --rdzv-id "$SLURM_JOB_ID"
