// Terminals, as E2B's documentation shows them.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { sharedSandbox, until } from './support.mjs'

const shared = sharedSandbox()
const bytes = (text) => new TextEncoder().encode(text)

async function open(options = {}) {
  const terminal = { text: '' }
  terminal.handle = await shared.sandbox.pty.create({
    cols: 80,
    rows: 24,
    timeoutMs: 60_000,
    onData: (data) => { terminal.text += new TextDecoder().decode(data) },
    ...options,
  })
  terminal.type = (text) => shared.sandbox.pty.sendInput(terminal.handle.pid, bytes(text))
  terminal.shows = (text) => until(`the terminal shows ${text}`, () => terminal.text.includes(text))
  return terminal
}

test('a terminal is a shell of the user that echoes and answers', async () => {
  const terminal = await open({ envs: { MARK: 'marked' } })
  await terminal.type('echo "$MARK-$(whoami)-$TERM"\n')
  await terminal.shows('marked-user-xterm-256color')
  await terminal.type('exit 7\n')
  await assert.rejects(() => terminal.handle.wait(), (error) => error.exitCode === 7)
})

test('a terminal has the size that was asked for, also after a resize', async () => {
  const terminal = await open()
  await terminal.type('stty size\n')
  await terminal.shows('24 80')
  await shared.sandbox.pty.resize(terminal.handle.pid, { cols: 132, rows: 43 })
  await terminal.type('stty size\n')
  await terminal.shows('43 132')
  assert.equal(await shared.sandbox.pty.kill(terminal.handle.pid), true)
})

test('control-C interrupts what runs and leaves the shell', async () => {
  const terminal = await open()
  // What has written is in the foreground, so that the key reaches it and not the shell before it.
  await terminal.type(`python3 -c "print('be' + 'gun', flush=True); import time; time.sleep(60)"\n`)
  await terminal.shows('begun')
  await terminal.type('\x03')
  await terminal.type('echo still-$((40 + 2))\n')
  await terminal.shows('still-42')
  await shared.sandbox.pty.kill(terminal.handle.pid)
})

test('another client connects to a running terminal', async () => {
  const terminal = await open()
  await terminal.handle.disconnect()
  let text = ''
  const again = await shared.sandbox.pty.connect(terminal.handle.pid, {
    onData: (data) => { text += new TextDecoder().decode(data) },
  })
  await terminal.type('echo re-$((1 + 1))-joined\n')
  await until('the output', () => text.includes('re-2-joined'))
  assert.equal(await again.kill(), true)
  assert.equal(await shared.sandbox.pty.kill(terminal.handle.pid), false)
})
