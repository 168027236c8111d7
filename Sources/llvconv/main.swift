import Bytes
import COpenBLAS
import Glibc
import LLVConv

llv_end_blas_threads()
Signals.install()
signal(SIGPIPE, SIG_IGN)
signal(SIGXFSZ, SIG_IGN)  // a file over the limit is a failed write
// A checkpoint may have thousands of shards, all open at once.
var files = rlimit()
if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 {
  files.rlim_cur = files.rlim_max
  setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
}
exit(Program.run(Array(CommandLine.arguments.dropFirst())))
