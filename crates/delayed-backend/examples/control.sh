# After: delayed-backend --listen 8080 --control 9000
backend=${BACKEND:-http://localhost:8080} control=${CONTROL:-http://localhost:9000}

curl -sS --fail -X PUT --data 'status=503;retry-after=1,ok' "$control/script"
curl -sS --fail --retry 1 "$backend/hello"
curl -sS --fail "$control/requests" # two requests: the first was a 503
curl -sS --fail -X POST "$control/reset"
