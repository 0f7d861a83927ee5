-- Gets of 100 000 records that are there: wrk -t2 -c32 -d10s --latency -s benches/wrk/get.lua http://127.0.0.1:8080
local n = 0
request = function()
  n = (n + 7919) % 100000
  return wrk.format("GET", string.format("/v1/keyspaces/default/records/k%06d", n))
end
