-- Asks Tollgate about a request: "http-request lua.tollgate PATH" in haproxy.cfg. On
-- a refusal it answers the client as Tollgate does. Only a 200 sets txn.tollgate.

local key = os.getenv("TOLLGATE_KEY")

local identity = { "tollgate-principal", "tollgate-assertion" }
local passed_on = { "content-type", "www-authenticate", "retry-after", "ratelimit", "ratelimit-policy", "x-request-id" }

-- answer ends the request with a status and headers of Tollgate's answer.
local function answer(txn, status, headers, body)
    local reply = txn:reply({ status = status })
    for _, name in ipairs(passed_on) do
        for _, value in pairs(headers[name] or {}) do
            reply:add_header(name, value)
        end
    end
    reply:add_header("cache-control", "no-store")
    reply:set_body(body or "")
    txn:done(reply)
end

core.register_action("tollgate", { "http-req" }, function(txn, path)
    local received = txn.http:req_get_headers()
    local headers = {
        ["x-original-method"] = { txn.sf:method() },
        -- As it was sent: what the service gets.
        ["x-original-url"] = { (txn.f:ssl_fc() == 1 and "https" or "http") .. "://" .. txn.sf:req_hdr("host") .. txn.sf:pathq() },
        ["x-forwarded-for"] = { txn.sf:src() },
    }
    if key then
        headers["x-tollgate-key"] = { key }
    end
    for _, name in ipairs({ "authorization", "x-api-key", "user-agent" }) do
        local values = {}
        for i = 0, #(received[name] or {}) do -- they count from 0
            values[i + 1] = received[name] and received[name][i]
        end
        headers[name] = values[1] and values or nil
    end

    local response = core.httpclient():get({ url = "http://tollgate" .. path, dst = "abns@tollgate-ask", headers = headers })
    if response.status == 200 then
        for _, name in ipairs(identity) do
            local value = response.headers[name] and response.headers[name][0]
            if not value or value == "" then
                return -- not an answer of Tollgate's
            end
            txn.http:req_set_header(name, value)
        end
        txn:set_var("txn.tollgate", "allowed")
    elseif response.status == 400 or response.status == 401 or response.status == 403 or response.status == 429 then
        answer(txn, response.status, response.headers, response.body)
    elseif response.status == 503 and response.headers["retry-after"] then
        answer(txn, 503, response.headers, response.body)
    end
end, 1)
