-- The load of `run`: a POST with the token of each of 64 applications in turn; ends with a line of what was measured.
local tokens = { TOKENS }
local body = '{"Comment":"Collect forensics due to alert 1234"}'
local calls, at = {}, 0

function init()
  for number, token in ipairs(tokens) do
    local path = string.format("/api/machines/%040x/collectInvestigationPackage", number * 7919 % 10000)
    calls[number] = wrk.format("POST", path, {
      ["Host"] = "gateway.example", ["Accept"] = "application/json", ["Content-Type"] = "application/json",
      ["Authorization"] = "Bearer " .. token }, body)
  end
end

function request()
  at = at % #calls + 1
  return calls[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "wrong": %d, "p50": %f, "p99": %f, "p999": %f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
