// What a sandbox uses, as E2B's documentation shows it.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, SandboxNotFoundError } from 'e2b'
import { until } from './support.mjs'

test('samples tell the CPU, memory and disk that are used, within the times asked for', async () => {
  const begun = new Date()
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  try {
    await sandbox.commands.run('head -c 64M /dev/urandom > filler; sync')
    await sandbox.commands.run('while true; do :; done', { background: true })
    const busy = await until(
      'a sample of a busy sandbox',
      async () => (await sandbox.getMetrics()).find((m) => m.cpuUsedPct > 20 && m.diskUsed > 64 << 20),
      60_000
    )
    const info = await sandbox.getInfo()
    assert.equal(busy.cpuCount, info.cpuCount)
    assert.equal(busy.memTotal, info.memoryMB << 20)
    assert.ok(busy.memUsed > 1 << 20 && busy.memUsed < busy.memTotal, JSON.stringify(busy))
    assert.ok(busy.diskTotal > busy.diskUsed && busy.cpuUsedPct < 250, JSON.stringify(busy))
    assert.ok(busy.timestamp >= begun && busy.timestamp <= new Date())

    const all = await sandbox.getMetrics()
    assert.ok(all.every((m, at) => at === 0 || m.timestamp > all[at - 1].timestamp), 'oldest first')
    const hourAgo = new Date(begun - 3_600_000)
    assert.deepEqual(await sandbox.getMetrics({ start: hourAgo, end: new Date(begun - 1_000) }), [])
    const since = await Sandbox.getMetrics(sandbox.sandboxId, { start: begun })
    assert.ok(since.length >= all.length)
  } finally {
    await sandbox.kill()
  }
  await assert.rejects(() => sandbox.getMetrics(), SandboxNotFoundError)
})
