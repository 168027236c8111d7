import Bytes
import Glibc
import LLVConv

/// SIGINT, SIGTERM and SIGHUP remove what is half written and end the program with 128 + the signal's number.
///
/// A thread of its own waits for them, so that cleaning up may take locks; a second signal while it does is not needed,
/// because unlinking does not block.
///
/// SIGBUS is what reading mapped weights gives when their file was cut meanwhile or its disk fails: an error like any
/// other of reading.
enum Signals {
  static func install() {
    signal(SIGBUS) { _ in
      let line: StaticString = "llvconv: a file of weights was cut or could not be read while it was in use\n"
      write(STDERR_FILENO, line.utf8Start, line.utf8CodeUnitCount)
      Temporaries.unlinkAllAndExit(Failure(.io, "").exitCode)
    }
    var set = sigset_t()
    sigemptyset(&set)
    for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { _ in
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, number) }
        var number: Int32 = 0
        while sigwait(&set, &number) != 0 {}
        Temporaries.unlinkAllAndExit(128 + number)
      }, nil)
  }
}
