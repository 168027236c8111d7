import Bytes
import Glibc

/// SIGINT, SIGTERM and SIGHUP remove what is half written and end the program with 128 + the signal's number.
///
/// A thread of its own waits for them, so that cleaning up may take locks; a second signal while it does is not needed,
/// because unlinking does not block.
enum Signals {
  static func install() {
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
