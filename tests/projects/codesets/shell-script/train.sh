set -e
export PYTHONPATH=jobs
python -m fit "$@"
