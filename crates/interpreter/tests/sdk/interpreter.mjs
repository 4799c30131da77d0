// `@e2b/code-interpreter` against a server on this machine.

import test from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox } from '@e2b/code-interpreter'

test('code runs as documented', async () => {
  const sandbox = await Sandbox.create()
  try {
    const execution = await sandbox.runCode('x = 1\nx += 1\nprint("hello")\nx')
    assert.equal(execution.text, '2')
    assert.deepEqual(execution.logs.stdout, ['hello\n'])
    assert.equal(execution.error, undefined)
  } finally {
    await sandbox.kill()
  }
})

test('errors, callbacks, variables and contexts work', async () => {
  const sandbox = await Sandbox.create()
  const failed = await sandbox.runCode('raise ValueError("no")')
  assert.equal(failed.error.name, 'ValueError')
  assert.equal(failed.error.value, 'no')

  const lines = []
  await sandbox.runCode('import os; print(os.environ["A"])', {
    envs: { A: 'b' },
    onStdout: (message) => lines.push(message.line),
  })
  assert.deepEqual(lines, ['b\n'])

  const context = await sandbox.createCodeContext({ language: 'js', cwd: '/tmp' })
  assert.equal((await sandbox.runCode('process.cwd()', { context })).text, '/tmp')
  assert.equal((await sandbox.listCodeContexts()).at(-1).id, context.id)
  await sandbox.restartCodeContext(context)
  await sandbox.removeCodeContext(context)
  await assert.rejects(sandbox.runCode('1', { context }), /not found/)
})

test('an execution that takes too long is a timeout, and the next one runs', async () => {
  const sandbox = await Sandbox.create()
  await assert.rejects(sandbox.runCode('while True: pass', { timeoutMs: 1000 }), /timed out/)
  assert.equal((await sandbox.runCode('1 + 1')).text, '2')
})
