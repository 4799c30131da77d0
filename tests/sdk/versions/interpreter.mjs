// What every version of `@e2b/code-interpreter` from npm is held to.

import assert from 'node:assert/strict'
import { Sandbox } from '@e2b/code-interpreter'
import { check, end } from './checks.mjs'

let sandbox
await check('create', async () => {
  sandbox = await Sandbox.create({ timeoutMs: 120_000 })
})
if (!sandbox) end()

await check('code', async () => {
  const execution = await sandbox.runCode('x = 41\nx += 1\nprint("hello")\nx')
  assert.deepEqual([execution.logs.stdout.join(''), execution.text], ['hello\n', '42'])
  assert.equal(execution.error, undefined)
})

await check('state', async () => {
  assert.equal((await sandbox.runCode('x + 1')).text, '43')
})

await check('error', async () => {
  const { error } = await sandbox.runCode('1 / 0')
  assert.equal(error.name, 'ZeroDivisionError')
  assert.match(error.traceback, /ZeroDivisionError/)
})

await check('results', async () => {
  const code = 'import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()'
  const { results } = await sandbox.runCode(code)
  assert.match(results[0].png, /^iVBOR/)
})

await check('contexts', async () => {
  const context = await sandbox.createCodeContext()
  const { error } = await sandbox.runCode('x', { context })
  assert.equal(error.name, 'NameError')
})

await check('language', async () => {
  const execution = await sandbox.runCode('console.log(6 * 7)', { language: 'js' })
  assert.equal(execution.logs.stdout.join(''), '42\n')
})

await check('commands', async () => {
  assert.equal((await sandbox.commands.run('echo beside')).stdout, 'beside\n')
})

await check('kill', async () => {
  await sandbox.kill()
  await assert.rejects(() => sandbox.runCode('1'))
})

end()
