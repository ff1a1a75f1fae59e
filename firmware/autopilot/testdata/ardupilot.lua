-- The part of ArduPilot's scripting API that holdfast-arming.lua uses, and what the script is
-- put through. Called as: lua ardupilot.lua SCRIPT. Prints one line for each failure.
local script = arg[1]
local now, armed, verdict, queue, texts, registered, broken
local system_name = "SYSID_THISMAV"

-- uint32_t as ArduPilot gives it to scripts: no number.
local uint32 = {}
uint32.__index = uint32
function uint32:toint() return self.v end
uint32.__sub = function(a, b) return setmetatable({ v = (a.v - b.v) & 0xFFFFFFFF }, uint32) end

function millis() return setmetatable({ v = now & 0xFFFFFFFF }, uint32) end

arming = {}
function arming:get_aux_auth_id() return 0 end
function arming:is_armed() return armed end
function arming:set_aux_auth_failed(id, why)
    assert(id == 0 and #why <= 41, "failure too long: " .. why)
    verdict = why
end
function arming:set_aux_auth_passed(id) assert(id == 0); verdict = "passed" end

mavlink = {}
function mavlink:init(depth, ids) assert(depth <= 25 and ids == 1) end
function mavlink:register_rx_msgid(id) registered = id; return true end
function mavlink:receive_chan()
    if broken then error("RX not initialized") end
    local m = table.remove(queue, 1)
    if m then return m, 0, millis() end
end

param = {}
function param:get(name) if name == system_name then return 1.0 end end

gcs = {}
function gcs:send_text(_, text) texts[#texts + 1] = text end

-- mavlink_message_t of a heartbeat
local function beat(mode, system, component, kind, autopilot)
    queue[#queue + 1] = string.pack("<I2BBBBBBBI3I4BBBBB", 0, 0xFD, 9, 0, 0, 0, system or 1, component or 191, 0,
        mode, kind or 18, autopilot or 8, 0, 4, 3) .. string.rep("\0", 260)
end

local update
local function start()
    now, armed, verdict, queue, texts, broken = 100000, false, "none", {}, {}, false
    update = dofile(script)
    assert(registered == 0)
end

local function run(ms)
    for _ = 1, ms // 200 do
        now = now + 200
        local again, pause = update()
        assert(again == update and pause == 200)
    end
end

local function want(name, expected)
    if verdict ~= expected then
        print(name .. ": " .. verdict .. ", want " .. expected)
    end
end

start()
want("nothing heard yet", "Holdfast: not heard")
beat(1); run(200)
want("well", "passed")
run(2600)
want("2.8 s after a heartbeat", "passed")
run(400)
want("silent", "Holdfast: not heard")
beat(1); run(200)
want("heard again", "passed")
for bit, why in pairs({ "network lock open", "recording has stopped", "no keys to seal to", "link not well", "not well" }) do
    beat(1 << bit); run(200)
    want("bit " .. bit, "Holdfast: " .. why)
    beat(1 << bit | 1); run(200)
    want("bit " .. bit .. " and bit 0: lifted", "passed")
end
beat(0); run(200)
want("no bit", "Holdfast: not well")

start()
beat(1, 255); beat(1, 1, 155); beat(1, 1, 191, 6); beat(1, 1, 191, 18, 3); run(200)
want("heartbeats of others", "Holdfast: not heard")
for _ = 1, 19 do beat(0, 1, 100, 30) end
beat(1); run(200)
want("the last of a full queue", "passed")

start()
beat(1); run(200)
armed, verdict = true, "untouched"
beat(2); run(10000)
want("armed and not well", "untouched")
armed = false; run(200)
want("disarmed and silent", "Holdfast: not heard")

start()
beat(1); run(200)
broken = true; run(200)
want("an error inside", "Holdfast: arming script failed")
armed, verdict = true, "untouched"; run(200)
want("an error inside while armed", "untouched")

system_name = "MAV_SYSID"
start()
beat(1); run(200)
want("4.7's name of the system id", "passed")

start()
now = 0xFFFFFFFF - 100
beat(1); run(200)
want("millis wraps", "passed")

if texts[1] ~= "Holdfast: arming script runs" then print("no text at start") end

function arming:get_aux_auth_id() return nil end
start()
if update ~= nil then print("runs without an authorisation") end
