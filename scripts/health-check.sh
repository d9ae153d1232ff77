#!/usr/bin/env bash
# Asks every health endpoint once. Exit code 1 when one of them does not answer 200.
#
# Usage: scripts/health-check.sh [url...]     without arguments: all that the runbook names
set -euo pipefail

endpoints=("$@")
if [ ${#endpoints[@]} = 0 ]; then
  endpoints=(
    "http://localhost:5000/health"
    "http://localhost:5000/ready"
    "http://localhost:8000/health"
    "http://localhost:3001/health"
  )
fi

failed=0
for url in "${endpoints[@]}"; do
  # 000 is curl's word for no answer at all.
  status=$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 "$url" || true)
  if [ "$status" = 200 ]; then
    echo "✅ $url - OK"
  else
    echo "❌ $url - FAILED ($status)"
    failed=1
  fi
done
exit $failed
