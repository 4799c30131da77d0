// A Jupyter kernel for JavaScript and TypeScript: `node kernel.js LANGUAGE CONNECTION_FILE`.
//
// Cells run in this process's own context, one after the other. Nothing that a cell does ends the
// kernel but `process.exit` and a crash of Node itself.
"use strict";

const { createHmac, randomUUID, timingSafeEqual } = require("node:crypto");
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const util = require("node:util");
const vm = require("node:vm");
const zmq = require("zeromq");
const { transform } = require("./transform.js");

const DELIMITER = "<IDS|MSG>";
const [language, connectionFile] = process.argv.slice(2);
const connection = JSON.parse(readFileSync(connectionFile, "utf8"));
const session = randomUUID();

// ---- The wire ----

const iopub = new zmq.Publisher({ linger: 1000 });
const shell = new zmq.Router();
const control = new zmq.Router();
const stdin = new zmq.Router();
const heartbeat = new zmq.Reply();

function sign(parts) {
  const hmac = createHmac("sha256", connection.key);
  for (const part of parts) hmac.update(part);
  return hmac.digest("hex");
}

/** Sockets take one message at a time. */
const queues = new Map();
function send(socket, identities, type, parent, content) {
  const header = {
    msg_id: randomUUID(),
    session,
    username: "kernel",
    date: new Date().toISOString(),
    msg_type: type,
    version: "5.4",
  };
  const parts = [header, parent, {}, content].map((part) => JSON.stringify(part));
  const frames = [...identities, DELIMITER, sign(parts), ...parts];
  const sent = (queues.get(socket) ?? Promise.resolve()).then(() => socket.send(frames));
  queues.set(socket, sent.catch((error) => report(error)));
}

function report(error) {
  realError(`${error?.stack ?? error}\n`);
}

function receive(frames) {
  const at = frames.findIndex((frame) => frame.toString() === DELIMITER);
  const [signature, ...parts] = frames.slice(at + 1);
  const expected = Buffer.from(sign(parts.slice(0, 4)));
  if (at < 0 || signature.length !== expected.length || !timingSafeEqual(signature, expected)) {
    throw new Error("a message without a valid signature");
  }
  const [header, , , content] = parts.map((part) => JSON.parse(part.toString()));
  return { identities: frames.slice(0, at), header, content };
}

// ---- Cells ----

let current = { header: {}, silent: true };
let executions = 0;
let interrupted = () => {};

const publish = (type, content) => send(iopub, [type], type, current.header, content);
const realError = process.stderr.write.bind(process.stderr);

for (const name of ["stdout", "stderr"]) {
  const decoder = new util.TextDecoder();
  process[name].write = (chunk, encoding, callback) => {
    const text =
      typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true });
    if (text !== "") publish("stream", { name, text });
    const done = typeof encoding === "function" ? encoding : callback;
    if (done) process.nextTick(done);
    return true;
  };
}

/** Modules are looked for from the folder in which the cell runs. */
function prepare() {
  globalThis.require = createRequire(`${process.cwd()}/cell.js`);
}

function compile(script) {
  const options = { filename: `${process.cwd()}/cell-${executions}.js` };
  const loader = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  options.importModuleDynamically =
    loader ?? ((name) => import(globalThis.require.resolve(name)));
  return new vm.Script(script, options);
}

async function run(code) {
  prepare();
  const { waits, script } = transform(code, language);
  const value = compile(script).runInThisContext({ breakOnSigint: true });
  if (!waits) return value;
  const interruption = new Promise((_, reject) => {
    interrupted = () => reject(new Error("Execution was interrupted"));
  });
  return await Promise.race([value, interruption]);
}

function failure(error) {
  const isError = util.types.isNativeError(error) || error instanceof Error;
  const stack = isError ? String(error.stack ?? error) : util.inspect(error);
  const ours = stack.split("\n").findIndex((line) => line.includes(__filename) || line.includes("(node:vm"));
  const traceback = ours > 0 ? stack.split("\n").slice(0, ours) : [stack];
  return {
    ename: isError ? String(error.name) : "Error",
    evalue: isError ? String(error.message) : util.inspect(error),
    traceback,
  };
}

/** A value's representations: what it says of itself, and as Node's own prompt would print it. */
function show(value) {
  const data = {};
  if (value !== null && typeof value === "object" && typeof value.toHtml === "function") {
    data["text/html"] = String(value.toHtml());
  }
  data["text/plain"] = util.inspect(value);
  return data;
}

globalThis.display = (value) => {
  publish("display_data", { data: show(value), metadata: {}, transient: {} });
};

async function execute({ identities, header, content }) {
  current = { header, silent: content.silent };
  if (!content.silent) {
    executions += 1;
    publish("execute_input", { code: content.code, execution_count: executions });
  }
  const reply = { status: "ok", execution_count: executions, payload: [], user_expressions: {} };
  try {
    const value = await run(content.code);
    if (value !== undefined && !content.silent) {
      const data = show(value);
      publish("execute_result", { execution_count: executions, data, metadata: {} });
    }
  } catch (error) {
    const failed = failure(error);
    Object.assign(reply, failed, { status: "error" });
    publish("error", failed);
  } finally {
    interrupted = () => {};
  }
  send(shell, identities, "execute_reply", header, reply);
}

// Between cells there is nothing to interrupt.
process.on("SIGINT", () => interrupted());
for (const event of ["uncaughtException", "unhandledRejection"]) {
  process.on(event, (error) => {
    publish("stream", { name: "stderr", text: `${failure(error).traceback.join("\n")}\n` });
  });
}

// ---- Requests ----

const INFORMATION = {
  status: "ok",
  protocol_version: "5.4",
  implementation: "courier-javascript",
  implementation_version: "1",
  banner: `Node.js ${process.version}`,
  help_links: [],
  language_info: {
    name: language,
    version: process.version,
    mimetype: `text/${language}`,
    file_extension: language === "typescript" ? ".ts" : ".js",
  },
};

async function answer(socket, frames) {
  const request = receive(frames);
  const { identities, header } = request;
  const status = (state) =>
    send(iopub, ["status"], "status", header, { execution_state: state });
  status("busy");
  try {
    switch (header.msg_type) {
      case "execute_request":
        await execute(request);
        break;
      case "kernel_info_request":
        send(socket, identities, "kernel_info_reply", header, INFORMATION);
        break;
      case "shutdown_request":
        send(socket, identities, "shutdown_reply", header, { status: "ok", restart: false });
        await queues.get(socket);
        process.exit(0);
        break;
      default:
        break;
    }
  } finally {
    status("idle");
  }
}

async function serve(socket) {
  for await (const frames of socket) {
    try {
      await answer(socket, frames);
    } catch (error) {
      report(error);
    }
  }
}

async function main() {
  const parent = Number(process.env.JPY_PARENT_PID);
  delete process.env.JPY_PARENT_PID;
  if (parent) {
    setInterval(() => process.ppid === parent || process.exit(1), 1000).unref();
  }
  const join = connection.transport === "ipc" ? "-" : ":";
  const address = (port) => `${connection.transport}://${connection.ip}${join}${port}`;
  await iopub.bind(address(connection.iopub_port));
  await stdin.bind(address(connection.stdin_port));
  await heartbeat.bind(address(connection.hb_port));
  await control.bind(address(connection.control_port));
  await shell.bind(address(connection.shell_port));
  void serve(control);
  void serve(shell);
  for await (const beat of heartbeat) await heartbeat.send(beat);
}

main().catch((error) => {
  report(error);
  process.exit(1);
});
