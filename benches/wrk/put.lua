-- Puts of 100 bytes that are not synced: wrk -t2 -c32 -d10s --latency -s benches/wrk/put.lua http://127.0.0.1:8080
local n = 0
local body = string.rep("v", 100)
request = function()
  n = (n + 7919) % 100000
  return wrk.format("PUT", string.format("/v1/keyspaces/default/records/k%06d?sync=async", n), nil, body)
end
