// What gets out of a sandbox, and with which credential. The server lives in the private test
// internet; what its decoys received is looked at by the test that runs this.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { ALL_TRAFFIC, Sandbox, Secret } from 'e2b'

const NAME = 'js-internet'
/** The test that runs this looks for them. */
const FIRST = 'js-internet-first-value'
const SECOND = 'js-internet-second-value'

test('a sandbox reaches what it may, with a credential that it never sees, and nothing else', async () => {
  await Secret.create(NAME, FIRST)
  const headers = { Authorization: `Bearer ${Secret.fill(NAME)}` }
  const sandbox = await Sandbox.create({
    timeoutMs: 120_000,
    network: {
      rules: { 'allowed.test': [{ transform: { headers } }] },
      allowOut: ({ rules }) => [...rules.keys()],
      denyOut: [ALL_TRAFFIC],
    },
  })
  const get = async (url) => {
    const asked = `curl -sS -m 20 -H 'Authorization: Bearer of-the-guest' '${url}' 2>&1 || echo "refused $?"`
    return (await sandbox.commands.run(asked)).stdout
  }
  try {
    assert.equal(await get('https://allowed.test/first'), 'decoy allowed.test\n')
    const echo = await get('https://allowed.test/echo/raw')
    assert.match(echo, /redacted/)
    assert.ok(!echo.includes(FIRST), echo)
    for (const url of ['https://denied.test/', 'http://denied.test/', 'http://93.184.216.20/']) {
      assert.match(await get(url), /refused \d+/, url)
    }
    await Secret.update(NAME, SECOND)
    assert.equal(await get('https://allowed.test/second'), 'decoy allowed.test\n')
    await sandbox.updateNetwork({ allowOut: ['later.test'], denyOut: [ALL_TRAFFIC] })
    assert.match(await get('http://allowed.test/third'), /refused \d+/)
    assert.equal(await get('http://later.test/fourth'), 'decoy later.test\n')
    await sandbox.updateNetwork({ allowInternetAccess: true, denyOut: ['93.184.216.20'] })
    assert.equal(await get('http://allowed.test/fifth'), 'decoy allowed.test\n')
    assert.match(await get('https://denied.test/'), /refused \d+/)
    await sandbox.updateNetwork({ allowInternetAccess: false })
    assert.match(await get('http://later.test/sixth'), /refused \d+/)
  } finally {
    await sandbox.kill()
    await Secret.destroy(NAME)
  }
})

test('what no field asks for is not reached', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  try {
    const { stdout } = await sandbox.commands.run('curl -sS -m 20 https://denied.test/ 2>&1 || echo "refused $?"')
    assert.match(stdout, /refused \d+/)
  } finally {
    await sandbox.kill()
  }
})
