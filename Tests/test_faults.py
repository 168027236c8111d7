"""Calls for files that fail, and kills in their place: a part of Tools/fail-calls on every command."""
import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class FaultsTests(unittest.TestCase):
    def test_no_failed_call_and_no_kill_tears_anything(self):
        run = subprocess.run([sys.executable, ROOT + "/Tools/fail-calls", "--most", "6"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        rows = [line.split("|")[1:-1] for line in run.stdout.splitlines()[2:]]
        self.assertGreaterEqual(len(rows), 15)
        for command, calls, runs, *_ in rows:
            self.assertGreater(int(calls), 50, command)
            self.assertGreater(int(runs), 6, command)

    def test_what_cannot_be_looked_at_is_not_taken_for_absent(self):
        # A model that is read without its tokenizer or its pooling is another model.
        run = subprocess.run([sys.executable, ROOT + "/Tools/fail-calls", "--only", "stat,lstat,fstat,fsync,close,open-create,rename",
                              "import"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_a_full_standard_output_is_said(self):
        with open("/dev/full", "w") as full:
            run = subprocess.run([os.environ["LLVCONV"], "--limits"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((run.returncode, run.stderr), (74, "llvconv: standard output: writing failed: No space left on device\n"))


if __name__ == "__main__":
    unittest.main()
