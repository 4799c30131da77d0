// Lifecycle, as E2B's documentation shows it.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { AuthenticationError, Sandbox, SandboxNotFoundError, TimeoutError } from 'e2b'
import { until } from './support.mjs'

test('a sandbox is created, runs, tells about itself and is killed, twice', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000, metadata: { purpose: 'lifecycle' } })
  assert.match(sandbox.sandboxId, /^i[a-z0-9]{20}$/)
  assert.equal(await sandbox.isRunning(), true)
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.equal(info.state, 'running')
  assert.equal(info.metadata.purpose, 'lifecycle')
  assert.ok(info.cpuCount >= 1 && info.memoryMB >= 64, JSON.stringify(info))
  assert.ok(info.startedAt <= info.endAt)
  assert.equal(await sandbox.kill(), true)
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await sandbox.kill(), false)
  assert.equal(await Sandbox.kill(sandbox.sandboxId), false)
  await assert.rejects(() => sandbox.getInfo(), SandboxNotFoundError)
})

test('a template may be named, and environment variables reach every command', async () => {
  const sandbox = await Sandbox.create('base', { timeoutMs: 60_000, envs: { GREETING: 'hello', SHADOWED: 'a' } })
  try {
    const result = await sandbox.commands.run('echo $GREETING $SHADOWED $E2B_SANDBOX_ID $E2B_SANDBOX', {
      envs: { SHADOWED: 'b' },
    })
    assert.equal(result.stdout, `hello b ${sandbox.sandboxId} true\n`)
  } finally {
    await sandbox.kill()
  }
})

test('connecting from another client reaches the same sandbox', async () => {
  const first = await Sandbox.create({ timeoutMs: 60_000 })
  try {
    await first.files.write('note.txt', 'from the first')
    const second = await Sandbox.connect(first.sandboxId)
    assert.equal(await second.files.read('note.txt'), 'from the first')
  } finally {
    await first.kill()
  }
  await assert.rejects(() => Sandbox.connect(first.sandboxId), SandboxNotFoundError)
})

test('connecting extends the time that is left and never shortens it', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  try {
    const before = (await sandbox.getInfo()).endAt
    await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 10_000 })
    assert.deepEqual((await sandbox.getInfo()).endAt, before)
    await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 300_000 })
    assert.ok((await sandbox.getInfo()).endAt > before)
  } finally {
    await sandbox.kill()
  }
})

test('a shortened timeout ends the sandbox though nobody calls', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  await sandbox.setTimeout(1_000)
  await until('the sandbox has ended', async () => !(await sandbox.isRunning()))
  await assert.rejects(() => sandbox.commands.run('echo too late'), SandboxNotFoundError)
})

test('a request in flight tells that the sandbox was killed', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  const handle = await sandbox.commands.run('sleep 60', { background: true })
  const waiting = assert.rejects(() => handle.wait(), (error) => {
    assert.ok(error instanceof TimeoutError, `${error}`)
    return true
  })
  await sandbox.kill()
  await waiting
})

test('the list is filtered by metadata, newest first, and has pages', async () => {
  const mark = `list ${process.pid} & more=%20`
  const sandboxes = []
  try {
    for (const number of ['1', '2', '3']) {
      sandboxes.push(await Sandbox.create({ timeoutMs: 60_000, metadata: { mark, number } }))
    }
    const all = await Sandbox.list({ query: { metadata: { mark } } }).nextItems()
    assert.deepEqual(all.map((s) => s.metadata.number), ['3', '2', '1'])
    const one = await Sandbox.list({ query: { metadata: { mark, number: '2' } } }).nextItems()
    assert.deepEqual(one.map((s) => s.sandboxId), [sandboxes[1].sandboxId])
    const pages = Sandbox.list({ query: { metadata: { mark }, state: ['running'] }, limit: 1 })
    const seen = []
    while (pages.hasNext) seen.push(...(await pages.nextItems()))
    assert.deepEqual(seen.map((s) => s.metadata.number), ['3', '2', '1'])
    const none = await Sandbox.list({ query: { metadata: { mark: 'another' } } }).nextItems()
    assert.deepEqual(none, [])
  } finally {
    for (const sandbox of sandboxes) await sandbox.kill()
  }
})

test('a wrong key is an authentication error, an unknown id and template are not-found errors', async () => {
  const wrong = { apiKey: `e2b_${'0'.repeat(40)}` }
  await assert.rejects(() => Sandbox.create({ ...wrong }), AuthenticationError)
  await assert.rejects(() => Sandbox.connect('i00000000000000000000'), SandboxNotFoundError)
  await assert.rejects(() => Sandbox.create('no-such-template'), /404.*no-such-template/)
})

test('a timeout of zero is refused with a message', async () => {
  await assert.rejects(() => Sandbox.create({ timeoutMs: 0 }), /400.*[Tt]imeout/)
})
