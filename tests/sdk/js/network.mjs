// What a sandbox may reach and who may reach it, as E2B's documentation shows it. Names here mean
// nothing to anybody: what really gets out is in internet.mjs.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { ALL_TRAFFIC, Sandbox, Secret } from 'e2b'
import { until } from './support.mjs'

const PORT = 8123
const HEADER = 'e2b-traffic-access-token'

/** Runs `act` with a sandbox that is gone afterwards. */
async function using(options, act) {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000, ...options })
  try {
    await act(sandbox)
  } finally {
    await sandbox.kill()
  }
}

/** Asks a server inside, in the way of this mode. */
function ask(sandbox, headers = {}) {
  const way = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': `${PORT}` }
  return process.env.COURIER_TEST_MODE === 'url'
    ? fetch(`${process.env.E2B_SANDBOX_URL}/`, { headers: { ...way, ...headers } })
    : fetch(`https://${sandbox.getHost(PORT)}/`, { headers })
}

/** Starts a server inside that says what it is asked with, and waits until it answers there. */
async function serve(sandbox) {
  await sandbox.files.write('server.py', `
import http.server
class Told(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(('127.0.0.1', ${PORT}), Told).serve_forever()
`)
  await sandbox.commands.run('python3 server.py', { background: true })
  await until('the server inside answers', async () => {
    const asked = `curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:${PORT}/ || true`
    return (await sandbox.commands.run(asked)).stdout === '200'
  })
}

test('what was asked for is told by getInfo', async () => {
  const name = `js-network-${process.env.COURIER_TEST_MODE}`
  await Secret.create(name, 'js-network-value')
  const headers = { Authorization: `Bearer ${Secret.fill(name)}`, 'X-Fixed': 'told' }
  const rules = { 'api.allowed.test': [{ transform: { headers } }] }
  const network = {
    rules,
    allowOut: (context) => [...context.rules.keys(), '*.wide.test', '8.8.8.0/24'],
    denyOut: ({ allTraffic }) => [allTraffic],
    maskRequestHost: 'localhost:${PORT}',
  }
  try {
    await using({ network }, async (sandbox) => {
      assert.equal(sandbox.trafficAccessToken, undefined)
      const info = await sandbox.getInfo()
      assert.deepEqual(info.network.allowOut, ['api.allowed.test', '*.wide.test', '8.8.8.0/24'])
      assert.deepEqual(info.network.denyOut, [ALL_TRAFFIC])
      assert.deepEqual(info.network.rules, rules)
      assert.equal(info.network.maskRequestHost, 'localhost:${PORT}')
      assert.notEqual(info.network.allowPublicTraffic, false)
      assert.ok(!JSON.stringify(info).includes('js-network-value'))
    })
  } finally {
    await Secret.destroy(name)
  }
})

test('an update replaces all of it, and what it leaves out is cleared', async () => {
  await using({ network: { allowOut: ['a.test', 'b.test'] } }, async (sandbox) => {
    await sandbox.updateNetwork({ allowOut: ['c.test'], denyOut: [ALL_TRAFFIC] })
    let { network } = await sandbox.getInfo()
    assert.deepEqual([network.allowOut, network.denyOut], [['c.test'], [ALL_TRAFFIC]])
    await Sandbox.updateNetwork(sandbox.sandboxId, { denyOut: ['8.8.8.8'] })
    network = (await sandbox.getInfo()).network
    assert.deepEqual(network.allowOut ?? [], [])
    assert.deepEqual(network.denyOut, ['8.8.8.8'])
  })
})

test('without internet access nothing is reached, and getInfo tells so', async () => {
  await using({ allowInternetAccess: false }, async (sandbox) => {
    assert.equal((await sandbox.getInfo()).allowInternetAccess, false)
    const { stdout } = await sandbox.commands.run('curl -sS -m 10 http://allowed.test/ 2>&1 || echo "refused $?"')
    assert.match(stdout, /refused \d+/)
  })
})

test('a network that makes no sense is refused with a message, at create and at update', async () => {
  await assert.rejects(() => Sandbox.create({ network: { allowOut: ['not a host'] } }), /400/)
  await assert.rejects(() => Sandbox.create({ network: { denyOut: ['a.test'] } }), /400/)
  await using({ network: { allowOut: ['a.test'] } }, async (sandbox) => {
    await assert.rejects(() => sandbox.updateNetwork({ allowOut: ['not a host'] }), /400/)
    assert.deepEqual((await sandbox.getInfo()).network.allowOut, ['a.test'])
  })
})

test('ports of a sandbox without public traffic want its token and keep it from the server inside', async () => {
  await using({ network: { allowPublicTraffic: false } }, async (sandbox) => {
    const token = sandbox.trafficAccessToken
    assert.ok(token, 'a sandbox without public traffic has a token')
    assert.equal((await sandbox.getInfo()).network.allowPublicTraffic, false)
    await serve(sandbox)
    const without = await ask(sandbox)
    assert.equal(without.status, 403, await without.clone().text())
    assert.match((await without.json()).message, /is missing/)
    const wrong = await ask(sandbox, { [HEADER]: `${token}x` })
    assert.equal(wrong.status, 403)
    assert.match((await wrong.json()).message, /is invalid/)
    const passed = await ask(sandbox, { [HEADER]: token })
    assert.equal(passed.status, 200)
    assert.ok(!(await passed.text()).includes(token))
    // Commands and files have a key of their own.
    assert.equal((await sandbox.commands.run('echo open')).stdout, 'open\n')
  })
})

test('a connection from another client knows the traffic token too', async () => {
  await using({ network: { allowPublicTraffic: false } }, async (sandbox) => {
    const again = await Sandbox.connect(sandbox.sandboxId)
    assert.equal(again.trafficAccessToken, sandbox.trafficAccessToken)
  })
})

test('a public port answers whoever asks', async () => {
  await using({}, async (sandbox) => {
    await serve(sandbox)
    assert.equal((await ask(sandbox)).status, 200)
  })
})
