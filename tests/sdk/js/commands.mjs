// Commands, as E2B's documentation shows them.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { CommandExitError, InvalidArgumentError, NotFoundError, SandboxError, TimeoutError } from 'e2b'
import { sharedSandbox, until } from './support.mjs'

const shared = sharedSandbox()
const run = (...args) => shared.sandbox.commands.run(...args)

test('a command in the foreground gives its output and exit code', async () => {
  const result = await run('echo out; echo err >&2')
  assert.equal(result.exitCode, 0)
  assert.equal(result.stdout, 'out\n')
  assert.equal(result.stderr, 'err\n')
})

test('a failing command is a CommandExitError with everything in it', async () => {
  await assert.rejects(() => run('echo half; echo why >&2; exit 3'), (error) => {
    assert.ok(error instanceof CommandExitError)
    assert.equal(error.exitCode, 3)
    assert.equal(error.stdout, 'half\n')
    assert.equal(error.stderr, 'why\n')
    return true
  })
})

test('callbacks see output while the command runs', async () => {
  const seen = []
  const gate = '/tmp/callback-gate'
  const done = run(`echo first; until [ -e ${gate} ]; do sleep 0.05; done; echo second`, {
    onStdout: (data) => seen.push(data),
  })
  await until('the first line has come', () => seen.join('').includes('first\n'))
  assert.ok(!seen.join('').includes('second'))
  await shared.sandbox.files.write(gate, '')
  await done
  assert.equal(seen.join(''), 'first\nsecond\n')
})

test('a command in the background is listed, gets input and is waited for', async () => {
  const handle = await run('read line; echo "got $line"', { background: true, stdin: true })
  const listed = await shared.sandbox.commands.list()
  assert.ok(listed.some((p) => p.pid === handle.pid && p.args.join(' ').includes('read line')), JSON.stringify(listed))
  await shared.sandbox.commands.sendStdin(handle.pid, 'a line\n')
  const result = await handle.wait()
  assert.equal(result.stdout, 'got a line\n')
  const after = await shared.sandbox.commands.list()
  assert.ok(!after.some((p) => p.pid === handle.pid))
})

test('closing standard input ends what reads it', async () => {
  const handle = await run('cat', { background: true, stdin: true })
  await handle.sendStdin('both ')
  await handle.sendStdin('parts')
  await handle.closeStdin()
  assert.equal((await handle.wait()).stdout, 'both parts')
})

test('another client connects to a running command and sees its end', async () => {
  const handle = await run('until [ -e /tmp/connect-gate ]; do sleep 0.05; done; echo late; exit 4', { background: true })
  await handle.disconnect()
  const again = await shared.sandbox.commands.connect(handle.pid)
  await shared.sandbox.files.write('/tmp/connect-gate', '')
  await assert.rejects(() => again.wait(), (error) => {
    assert.equal(error.exitCode, 4)
    assert.equal(error.stdout, 'late\n')
    return true
  })
})

test('killing a command ends it at once and a second time says no', async () => {
  const handle = await run('sleep 60', { background: true })
  assert.equal(await shared.sandbox.commands.kill(handle.pid), true)
  await assert.rejects(() => run(`kill -0 ${handle.pid}`), CommandExitError)
  assert.equal(await shared.sandbox.commands.kill(handle.pid), false)
  await assert.rejects(() => handle.wait(), /signal: killed/)
})

test('a command that outlives its timeout is killed and reported as a timeout', async () => {
  await assert.rejects(() => run('sleep 60 # overdue', { timeoutMs: 500 }), TimeoutError)
  await until('the overdue command is gone', async () => {
    const listed = await shared.sandbox.commands.list()
    return !listed.some((p) => p.args.join(' ').includes('overdue'))
  })
})

test('commands run as the user, or as root, who is also a sudo away', async () => {
  assert.equal((await run('whoami; pwd')).stdout, 'user\n/home/user\n')
  assert.equal((await run('whoami', { user: 'root' })).stdout, 'root\n')
  assert.equal((await run('sudo whoami')).stdout, 'root\n')
  await assert.rejects(() => run('whoami', { user: 'nobody-known' }), /invalid username/)
})

test('the working folder is the one asked for, relative to home, and must exist', async () => {
  assert.equal((await run('pwd', { cwd: '/tmp' })).stdout, '/tmp\n')
  await shared.sandbox.files.makeDir('sub/folder')
  assert.equal((await run('pwd', { cwd: 'sub/folder' })).stdout, '/home/user/sub/folder\n')
  await assert.rejects(() => run('pwd', { cwd: '/not/there' }), (error) => {
    assert.ok(error instanceof InvalidArgumentError || error instanceof SandboxError)
    assert.match(error.message, /does not exist/)
    return true
  })
})

test('an unknown process is a not-found error', async () => {
  await assert.rejects(() => shared.sandbox.commands.connect(999_999), NotFoundError)
  await assert.rejects(() => shared.sandbox.commands.sendStdin(999_999, 'x'), NotFoundError)
  assert.equal(await shared.sandbox.commands.kill(999_999), false)
})

test('output that is cut in the middle of a character arrives whole', async () => {
  const result = await run(`python3 -c "import sys; sys.stdout.write('ž€😀' * 20000)"`)
  assert.equal(result.stdout, 'ž€😀'.repeat(20_000))
})

test('many commands run at once and keep their outputs apart', async () => {
  const numbers = [...Array(20).keys()]
  const results = await Promise.all(numbers.map((n) => run(`echo ${n}`)))
  assert.deepEqual(results.map((r) => r.stdout), numbers.map((n) => `${n}\n`))
})

test('eight megabytes of output come complete', async () => {
  let bytes = 0
  await run('head -c 8388608 /dev/zero | tr "\\0" x', { onStdout: (data) => { bytes += data.length } })
  assert.equal(bytes, 8_388_608)
})

test('what the template promises is there', async () => {
  const result = await run('python --version && python3 --version && node --version && git --version && curl --version | head -1 && test "$SHELL" = /bin/bash')
  assert.match(result.stdout, /Python 3/)
  assert.match(result.stdout, /v\d+\./)
})
