// What every version of `e2b` from npm is held to. One line for each check; exit code 1 where one
// failed. Only what all versions have, under the names that they have for it.

import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { Sandbox } from 'e2b'
import { check, end } from './checks.mjs'

async function until(look) {
  for (const deadline = Date.now() + 15_000; Date.now() < deadline; await pause(20)) {
    const seen = await look()
    if (seen) return seen
  }
  assert.fail('not in time')
}

let sandbox
await check('create', async () => {
  sandbox = await Sandbox.create({
    timeoutMs: 120_000,
    metadata: { by: 'old' },
    envs: { GREETING: 'hi' },
  })
})
if (!sandbox) end()

await check('command', async () => {
  const seen = []
  const result = await sandbox.commands.run('echo "$GREETING $MORE"; echo no >&2', {
    envs: { MORE: 'there' },
    onStdout: (text) => seen.push(text),
  })
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['hi there\n', 'no\n', 0])
  assert.equal(seen.join(''), 'hi there\n')
  await assert.rejects(() => sandbox.commands.run('exit 3'), (error) => error.exitCode === 3)
})

await check('background', async () => {
  const handle = await sandbox.commands.run('sleep 60', { background: true })
  assert.ok((await sandbox.commands.list()).some((process) => process.pid === handle.pid))
  assert.equal(await handle.kill(), true)
  await assert.rejects(() => handle.wait())
})

await check('terminal', async () => {
  let seen = ''
  const size = { cols: 80, rows: 24 }
  const onData = (bytes) => (seen += new TextDecoder().decode(bytes))
  const terminal = await sandbox.pty.create({ ...size, onData })
  await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode('echo $((40 + 2))\n'))
  await until(() => /[\r\n]42\r/.test(seen))
  assert.equal(await sandbox.pty.kill(terminal.pid), true)
})

await check('files', async () => {
  await sandbox.files.write('deep/a.txt', 'one')
  assert.equal(await sandbox.files.read('deep/a.txt'), 'one')
  assert.deepEqual((await sandbox.files.list('deep')).map((entry) => entry.name), ['a.txt'])
  await sandbox.files.rename('deep/a.txt', 'deep/b.txt')
  assert.equal(await sandbox.files.exists('deep/a.txt'), false)
  await sandbox.files.remove('deep/b.txt')
  await assert.rejects(() => sandbox.files.read('deep/b.txt'))
})

await check('watch', async () => {
  const seen = []
  const watch = (sandbox.files.watchDir ?? sandbox.files.watch).bind(sandbox.files)
  const handle = await watch('deep', (event) => seen.push(event.name))
  await sandbox.files.write('deep/watched.txt', 'x')
  await until(() => seen.includes('watched.txt'))
  await (handle.stop ?? handle.close).call(handle)
})

await check('list', async () => {
  const listed = Sandbox.list()
  const all = await (listed.nextItems ? listed.nextItems() : listed)
  const ours = all.find((one) => one.sandboxId.startsWith(sandbox.sandboxId))
  assert.deepEqual(ours?.metadata, { by: 'old' })
})

await check('reconnect', async () => {
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('cat deep/watched.txt')).stdout, 'x')
})

await check('timeout', async () => {
  await sandbox.setTimeout(90_000)
  assert.equal(await sandbox.isRunning(), true)
})

await check('kill', async () => {
  await sandbox.kill()
  await assert.rejects(() => sandbox.commands.run('echo too late'))
})

end()
