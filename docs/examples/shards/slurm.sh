#!/bin/bash
# One task a shard, 16 at a time: sbatch slurm.sh /shared/run-1
# Before: altcraft-async shards plan orders.parquet /shared/run-1 --shards 64
#SBATCH --job-name=altcraft-shards
#SBATCH --array=0-63%16
#SBATCH --cpus-per-task=1
#SBATCH --mem=512M
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -euo pipefail

export ALTCRAFT_BASE_URL=https://ru.altkraft.com
export ALTCRAFT_TOKEN_FILE="$HOME/.config/altcraft/token"

# exec, so that the signal before the time limit reaches the command, which then writes its last snapshot.
exec altcraft-async shards run "$1" --shard "$SLURM_ARRAY_TASK_ID" --concurrency-total 320
