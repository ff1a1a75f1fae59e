-- Holdfast's arming veto for ArduPilot 4.5 and later (docs/autopilot.md).
--
-- The board's heartbeat (component 191 of this vehicle) has bit 0 of custom_mode set as long as
-- nothing speaks against arming. While it is not set, or was not heard for 3 s, this script fails
-- an auxiliary authorisation, so that the vehicle does not arm. It does nothing while armed, sends
-- nothing and changes nothing.
--
-- ArduPilot has one queue of received messages for all scripts: no other script on the autopilot
-- may call mavlink:receive_chan().

local HEARTBEAT = 0
local COMPONENT = 191 -- MAV_COMP_ID_ONBOARD_COMPUTER
local ONBOARD_CONTROLLER = 18 -- MAV_TYPE_ONBOARD_CONTROLLER
local NO_AUTOPILOT = 8 -- MAV_AUTOPILOT_INVALID
local SILENT_MS = 3000
local EVERY_MS = 200
local QUEUE = 20

-- A failure is cut at 41 letters.
local REASONS = {
    { 1 << 1, "Holdfast: network lock open" },
    { 1 << 2, "Holdfast: recording has stopped" },
    { 1 << 3, "Holdfast: no keys to seal to" },
    { 1 << 4, "Holdfast: link not well" },
}

local auth = arming:get_aux_auth_id()
local heard -- millis() of the last heartbeat
local bits = 0

mavlink:init(QUEUE, 1)
mavlink:register_rx_msgid(HEARTBEAT)

-- The name of the parameter changed in 4.7.
local function own_system()
    return param:get("MAV_SYSID") or param:get("SYSID_THISMAV")
end

-- read takes one received message: a mavlink_message_t, whose payload begins at byte 13.
local function read(message, system)
    local from, component = string.unpack("<BB", message, 8)
    if from ~= system or component ~= COMPONENT or string.unpack("<I3", message, 10) ~= HEARTBEAT then
        return
    end
    local mode, kind, autopilot = string.unpack("<I4BB", message, 13)
    if kind == ONBOARD_CONTROLLER and autopilot == NO_AUTOPILOT then
        bits, heard = mode, millis()
    end
end

-- receive empties the queue.
local function receive()
    local system = own_system()
    for _ = 1, QUEUE do
        local message = mavlink:receive_chan()
        if not message then
            return
        end
        read(message, system)
    end
end

-- objection returns why the vehicle must not arm, or nil.
local function objection()
    if not heard or (millis() - heard):toint() >= SILENT_MS then
        return "Holdfast: not heard"
    end
    if bits & 1 ~= 0 then
        return nil
    end
    for _, reason in ipairs(REASONS) do
        if bits & reason[1] ~= 0 then
            return reason[2]
        end
    end
    return "Holdfast: not well"
end

local function check()
    receive()
    if arming:is_armed() then
        return
    end
    local why = objection()
    if why then
        arming:set_aux_auth_failed(auth, why)
    else
        arming:set_aux_auth_passed(auth)
    end
end

-- An error must not leave an old "passed" behind.
local function update()
    if not pcall(check) and not arming:is_armed() then
        arming:set_aux_auth_failed(auth, "Holdfast: arming script failed")
    end
    return update, EVERY_MS
end

if not auth then
    gcs:send_text(3, "Holdfast: no room for an authorisation")
    return
end
gcs:send_text(6, "Holdfast: arming script runs")
return update()
