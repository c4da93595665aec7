-- What a user would write instead: five experiments by the cookie `uid`, bucketed as Edgesplit does; the header, the cache
-- key, and a response that no shared cache keeps. No config to fetch, no routes, no events, nothing removed that clients sent.
local bit = require("bit")
local band, bxor, lshift, rshift, rol, tobit = bit.band, bit.bxor, bit.lshift, bit.rshift, bit.rol, bit.tobit

local function mul(a, b)
  local high, low = rshift(a, 16), band(a, 0xffff)
  return tobit(band(high * b, 0xffff) * 65536 + low * b)
end

local function murmur3(text)
  local hash, length = 0, #text
  local whole = length - length % 4
  for at = 1, whole, 4 do
    local a, b, c, d = text:byte(at, at + 3)
    local k = a + lshift(b, 8) + lshift(c, 16) + lshift(d, 24)
    k = mul(rol(mul(tobit(k), 0xcc9e2d51), 15), 0x1b873593)
    hash = tobit(mul(rol(bxor(hash, k), 13), 5) + 0xe6546b64)
  end
  local k = 0
  local rest = length - whole
  if rest >= 3 then k = bxor(k, lshift(text:byte(whole + 3), 16)) end
  if rest >= 2 then k = bxor(k, lshift(text:byte(whole + 2), 8)) end
  if rest >= 1 then
    k = bxor(k, text:byte(whole + 1))
    hash = bxor(hash, mul(rol(mul(k, 0xcc9e2d51), 15), 0x1b873593))
  end
  hash = bxor(hash, length)
  hash = mul(bxor(hash, rshift(hash, 16)), 0x85ebca6b)
  hash = mul(bxor(hash, rshift(hash, 13)), 0xc2b2ae35)
  hash = bxor(hash, rshift(hash, 16))
  return hash < 0 and hash + 4294967296 or hash
end

local function bucket(salt, unit)
  return math.floor(murmur3(salt .. unit) * 10000 / 4294967296)
end

local experiments = { "experiment-0", "experiment-1", "experiment-2", "experiment-3", "experiment-4" }

function envoy_on_request(handle)
  local headers = handle:headers()
  local unit = (headers:get("cookie") or ""):match("uid=([^;]+)")
  if not unit then return end
  local assignments, key = {}, {}
  for _, experiment in ipairs(experiments) do
    if bucket(experiment .. "/traffic/", unit) < 10000 then
      if bucket(experiment .. "/variant/", unit) < 5000 then
        assignments[#assignments + 1] = experiment .. "=control"
      else
        assignments[#assignments + 1] = experiment .. "=treatment"
        key[#key + 1] = experiment .. ".treatment"
      end
    end
  end
  headers:replace("x-ab-assignments", table.concat(assignments, ", "))
  if #key > 0 then headers:replace("x-ab-cache-key", table.concat(key, "~")) end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if not headers:get("cache-control") then headers:add("cache-control", "private") end
end
