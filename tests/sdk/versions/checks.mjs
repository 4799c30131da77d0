// One line for each check, which the generator of the table reads.

let failures = 0

/** Runs a check; an error is told in one line, and the next check follows. */
export async function check(name, act) {
  try {
    await act()
    console.log(`ok ${name}`)
  } catch (error) {
    failures += 1
    console.log(`failed ${name}: ${`${error?.message ?? error}`.replace(/\s+/g, ' ').slice(0, 300)}`)
  }
}

/** Says that this version has no such thing. */
export function absent(name) {
  console.log(`absent ${name}`)
}

/** Ends, although an old SDK may have left a connection open. */
export function end() {
  process.exit(failures === 0 ? 0 : 1)
}
