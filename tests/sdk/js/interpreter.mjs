// The code interpreter by `@e2b/code-interpreter`, as E2B's documentation shows it.

import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { NotFoundError, TimeoutError } from 'e2b'
import { Sandbox } from '@e2b/code-interpreter'

let sandbox

before(async () => {
  sandbox = await Sandbox.create({ timeoutMs: 300_000, envs: { OF_SANDBOX: 'one' } })
})

after(async () => {
  await sandbox?.kill()
})

test('the pattern that every integration starts from works', async () => {
  const sandbox = await Sandbox.create()
  try {
    const execution = await sandbox.runCode('x = 1\nx += 1\nprint("hello")\nx')
    assert.deepEqual(execution.logs.stdout, ['hello\n'])
    assert.equal(execution.error, undefined)
    assert.equal(execution.text, '2')
  } finally {
    assert.equal(await sandbox.kill(), true)
  }
})

test('state stays from one execution to the next, and each has its number', async () => {
  await sandbox.runCode('kept = 20')
  const execution = await sandbox.runCode('kept += 1; kept')
  assert.equal(execution.text, '21')
  assert.equal(execution.executionCount, 2)
})

test('output and results reach callbacks as they come', async () => {
  const seen = { out: '', err: '', results: [], before: false }
  const code = 'import sys, time\nprint("o", flush=True)\ntime.sleep(0.5)\nprint("e", file=sys.stderr)\n"r"'
  await sandbox.runCode(code, {
    onStdout: ({ line }) => Object.assign(seen, { out: seen.out + line, before: seen.err === '' }),
    onStderr: ({ line }) => { seen.err += line },
    onResult: ({ text }) => seen.results.push(text),
  })
  assert.deepEqual(seen, { out: 'o\n', err: 'e\n', results: ['r'], before: true })
})

test('an error has its name, value and traceback', async () => {
  const errors = []
  const code = 'def broken():\n    raise ValueError("no")\nbroken()'
  const { error, logs } = await sandbox.runCode(code, { onError: (error) => errors.push(error) })
  assert.deepEqual([error.name, error.value], ['ValueError', 'no'])
  assert.match(error.traceback, /line 2.*broken/s)
  assert.deepEqual(errors, [error])
  assert.deepEqual(logs.stdout, [])
})

test('variables of the sandbox and of an execution are there', async () => {
  const code = 'import os; print(os.environ["OF_SANDBOX"], os.environ.get("OWN"))'
  const own = await sandbox.runCode(code, { envs: { OWN: 'two' } })
  assert.deepEqual(own.logs.stdout, ['one two\n'])
  const without = await sandbox.runCode(code)
  assert.deepEqual(without.logs.stdout, ['one None\n'])
})

test('every language runs', async () => {
  const text = async (code, language) => (await sandbox.runCode(code, { language })).text
  assert.equal(await text('const [n] = [20]; n + 1', 'javascript'), '21')
  assert.equal(await text('const one = await Promise.resolve(1); one', 'js'), '1')
  assert.equal(await text('const n: number = 2; n', 'typescript'), '2')
  const bash = await sandbox.runCode('for n in 1 2; do echo $n; done', { language: 'bash' })
  assert.equal(bash.logs.stdout.join(''), '1\n2\n')
  const r = await sandbox.runCode('cat(mean(c(1, 3)))', { language: 'r' })
  assert.equal(r.logs.stdout.join(''), '2')
})

test('contexts are made, listed, restarted and removed', async () => {
  const context = await sandbox.createCodeContext({ language: 'js', cwd: '/var/tmp' })
  assert.deepEqual([context.language, context.cwd], ['javascript', '/var/tmp'])
  assert.equal((await sandbox.runCode('var kept = 1; process.cwd()', { context })).text, '/var/tmp')
  assert.equal((await sandbox.listCodeContexts()).at(-1).id, context.id)
  await sandbox.restartCodeContext(context)
  assert.equal((await sandbox.runCode('typeof kept', { context })).text, 'undefined')
  await sandbox.removeCodeContext(context.id)
  assert.ok(!(await sandbox.listCodeContexts()).some(({ id }) => id === context.id))
  await assert.rejects(sandbox.runCode('1', { context }), NotFoundError)
  await assert.rejects(sandbox.restartCodeContext(context), NotFoundError)
})

test('charts, frames and images are typed', async () => {
  const chart = await sandbox.runCode(
    'import matplotlib.pyplot as plt\nplt.bar(["a", "b"], [1, 2])\nplt.title("T")\nplt.show()',
  )
  const { chart: bars, png } = chart.results[0]
  assert.deepEqual([bars.type, bars.title], ['bar', 'T'])
  assert.deepEqual(bars.elements.map(({ label, value }) => [label, value]), [['a', 1], ['b', 2]])
  assert.equal(Buffer.from(png, 'base64').subarray(1, 4).toString(), 'PNG')
  const frame = await sandbox.runCode('import pandas as pd\npd.DataFrame({"a": [1, 2], "b": ["x", "y"]})')
  assert.deepEqual(frame.results[0].data, { a: [1, 2], b: ['x', 'y'] })
  assert.match(frame.results[0].html, /<table/)
  assert.deepEqual((await sandbox.runCode('{"a": [1]}')).results[0].json, { a: [1] })
})

test('code that takes too long is a timeout, is interrupted, and its state stays', async () => {
  const endless = 'there = 7\nwhile True: pass'
  await assert.rejects(sandbox.runCode(endless, { timeoutMs: 1000 }), TimeoutError)
  const started = Date.now()
  assert.equal((await sandbox.runCode('there')).text, '7')
  assert.ok(Date.now() - started < 5000, `${Date.now() - started} ms`)
})

test('files and commands work beside it', async () => {
  await sandbox.files.write('in.txt', 'from outside')
  const execution = await sandbox.runCode('open("out.txt", "w").write(open("in.txt").read().upper())')
  assert.equal(execution.error, undefined)
  assert.equal(await sandbox.files.read('out.txt'), 'FROM OUTSIDE')
  assert.equal((await sandbox.commands.run('python3 -c "import numpy"; stat -c %U out.txt')).stdout, 'user\n')
})

test('ten megabytes of output come complete', async () => {
  const execution = await sandbox.runCode('for _ in range(1000): print("x" * 9999)')
  assert.equal(execution.logs.stdout.join('').length, 10_000_000)
})
