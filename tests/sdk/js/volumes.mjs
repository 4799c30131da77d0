// Volumes, as E2B's documentation shows them: made, mounted, reached without a sandbox, destroyed.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, Volume, VolumePathNotFoundError } from 'e2b'

const NAME = `js-${process.env.COURIER_TEST_MODE}`

test('a volume outlives sandboxes, and two of them see each other through it', async () => {
  const volume = await Volume.create(`${NAME}-mounted`)
  try {
    const mount = { volumeMounts: { '/data': volume } }
    const first = await Sandbox.create('base', { timeoutMs: 120_000, ...mount })
    const second = await Sandbox.create('base', { timeoutMs: 120_000, ...mount })
    try {
      await first.files.write('/data/greeting', 'from the first')
      assert.equal(await second.files.read('/data/greeting'), 'from the first')
      await second.commands.run('echo from the second > /data/answer')
      assert.equal((await first.files.read('/data/answer')).trim(), 'from the second')
      const info = await Sandbox.getInfo(first.sandboxId)
      if (info.volumeMounts) {
        assert.deepEqual(JSON.parse(JSON.stringify(info.volumeMounts)), [
          { name: `${NAME}-mounted`, path: '/data' },
        ])
      }
      await assert.rejects(Volume.destroy(volume.volumeId), new RegExp(first.sandboxId))
    } finally {
      await first.kill()
      await second.kill()
    }
    const third = await Sandbox.create('base', { timeoutMs: 120_000, volumeMounts: { '/mnt': volume } })
    try {
      assert.equal(await third.files.read('/mnt/greeting'), 'from the first')
    } finally {
      await third.kill()
    }
    assert.equal(await volume.readFile('/answer'), 'from the second\n')
  } finally {
    assert.equal(await Volume.destroy(volume.volumeId), true)
  }
  assert.equal(await Volume.destroy(volume.volumeId), false)
})

test('the content of a volume is written, told about, listed, changed and removed', async () => {
  const made = await Volume.create(`${NAME}-content`)
  try {
    const volume = await Volume.connect(made.volumeId)
    assert.deepEqual([volume.name, volume.token], [made.name, made.token])
    assert.ok((await Volume.list()).some((one) => one.volumeId === made.volumeId))
    const entry = await volume.writeFile('/a.txt', 'hällo')
    assert.deepEqual(
      [entry.name, entry.type, entry.path, entry.size, entry.mode, entry.uid, entry.gid],
      ['a.txt', 'file', '/a.txt', 6, 0o644, 1000, 1000],
    )
    assert.ok(Math.abs(Date.now() - entry.mtime.getTime()) < 60_000)
    assert.equal(await volume.readFile('/a.txt'), 'hällo')
    const bytes = new Uint8Array(3 << 20).map((_, index) => index % 251)
    await volume.writeFile('/b.bin', new Blob([bytes]), { uid: 7, gid: 8, mode: 0o600 })
    const read = await volume.readFile('/b.bin', { format: 'bytes' })
    assert.deepEqual(Buffer.from(read), Buffer.from(bytes))
    const stat = await volume.getInfo('/b.bin')
    assert.deepEqual([stat.size, stat.uid, stat.gid, stat.mode], [3 << 20, 7, 8, 0o600])
    await assert.rejects(volume.makeDir('/deep/er'), VolumePathNotFoundError)
    assert.equal((await volume.makeDir('/deep/er', { force: true })).type, 'directory')
    await assert.rejects(volume.makeDir('/deep/er'), /exists/)
    await volume.writeFile('/deep/er/c', '')
    const names = (list) => list.map((one) => one.path)
    assert.deepEqual(names(await volume.list('/')), ['/a.txt', '/b.bin', '/deep'])
    assert.deepEqual(names(await volume.list('/deep', { depth: 2 })), ['/deep/er', '/deep/er/c'])
    const changed = await volume.updateMetadata('/a.txt', { mode: 0o400, uid: 5 })
    assert.deepEqual([changed.mode, changed.uid, changed.gid], [0o400, 5, 1000])
    assert.equal(await volume.exists('/a.txt'), true)
    await volume.remove('/deep')
    assert.equal(await volume.exists('/deep/er/c'), false)
    await assert.rejects(volume.remove('/deep'), VolumePathNotFoundError)
    await assert.rejects(volume.readFile('/none'), VolumePathNotFoundError)
    const stream = await volume.readFile('/b.bin', { format: 'stream' })
    let length = 0
    for await (const piece of stream) length += piece.length
    assert.equal(length, 3 << 20)
  } finally {
    await Volume.destroy(made.volumeId)
  }
})

test('names and paths that are none are refused with what is right', async () => {
  await assert.rejects(Volume.create('no such name!'), /a-z/)
  const volume = await Volume.create(`${NAME}-refused`)
  try {
    await assert.rejects(Volume.create(`${NAME}-refused`), /already/)
    for (const path of ['/etc', 'data', '/data/../x', '/']) {
      await assert.rejects(Sandbox.create('base', { volumeMounts: { [path]: volume } }), /place for a volume/)
    }
    await assert.rejects(Sandbox.create('base', { volumeMounts: { '/data': 'none' } }), /not found/)
    await assert.rejects(
      Sandbox.create('base', { volumeMounts: { '/data': volume, '/data/x': volume } }),
      /in one another/,
    )
    const stranger = new Volume(volume.volumeId, volume.name, 'wrong', volume.domain)
    await assert.rejects(stranger.list('/'), /token/)
  } finally {
    await Volume.destroy(volume.volumeId)
  }
})
