"""check_sizes.py counts what it says it counts, and reasons hold only for what is over a limit."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).with_name("check_sizes.py")


def body(num_lines, indent=2):
    return "".join(f"{' ' * indent}f({i});\n" for i in range(num_lines))


class SizesTest(unittest.TestCase):
    def check(self, source, reasons="", name="room/a.cpp"):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            path = root / "src" / name
            path.parent.mkdir(parents=True)
            path.write_text(source, encoding="utf-8")
            (root / "tests" / "house").mkdir(parents=True)
            (root / "tests" / "house" / "sizes_with_a_reason.txt").write_text(reasons, encoding="utf-8")
            done = subprocess.run([sys.executable, "-B", SCRIPT, root], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout

    def test_files(self):
        self.assertEqual(self.check("\n" * 400)[0], 0)
        self.assertIn("file src/room/a.cpp: 401, more than 400", self.check("\n" * 401)[1])

    def test_functions(self):
        self.assertEqual(self.check("void f(int a) {\n" + body(58) + "}\n"), (0, "0 findings\n"))
        self.assertIn("function src/room/a.cpp f: 61", self.check("void f(int a) {\n" + body(59) + "}\n")[1])
        long_signature = "void Thing::g(int a,\n              int b) {\n" + body(58) + "}\n"
        self.assertIn("a.cpp Thing::g: 61", self.check(long_signature)[1])
        constructor = "Thing::Thing(int a)\n    : a_(a),\n      b_(1) {\n" + body(57) + "}\n"
        self.assertIn("a.cpp Thing::Thing: 61", self.check(constructor)[1])
        kernel = "template <class T>\n__global__ void __launch_bounds__(128, 2) kernel(const P p) {\n" + body(59) + "}\n"
        self.assertIn("a.cpp kernel: 61", self.check(kernel)[1])
        inside = "class Thing {\n  void f() {\n" + body(59, 4) + "  }\n};\n"
        self.assertIn("a.cpp f: 61", self.check(inside)[1])
        self.assertEqual(self.check("namespace a {\n" + body(70, 0) + "}\n")[0], 0)

    def test_classes(self):
        def thing(num_members):
            return "class Thing {\n private:\n" + "".join(f"  std::array<int, {i}> m{i}_ = {{}};  // of it\n" for i in
                                                           range(num_members)) + "  int f() const { return 1; }\n};\n"
        self.assertEqual(self.check(thing(15))[0], 0)
        self.assertIn("class src/room/a.cpp Thing: 16", self.check(thing(16))[1])
        several = "struct S {\n  std::int64_t a, b, c = 0, d;\n" + "".join(f"  int m{i};\n" for i in range(12)) + "};\n"
        self.assertIn("class src/room/a.cpp S: 16", self.check(several)[1])

    def test_constructors(self):
        def thing(arguments):
            return "class Thing {\n public:\n  Thing(" + ", ".join(["const std::map<A, B>& m"] * (arguments - 1)) + \
                ",\n        std::function<void(int, int)> f);\n};\n"
        self.assertEqual(self.check(thing(7))[0], 0)
        self.assertIn("constructor src/room/a.cpp Thing: 8", self.check(thing(8))[1])

    def test_reasons(self):
        code, text = self.check("\n" * 401, "# words\nfile src/room/a.cpp: a table\n")
        self.assertEqual((code, text), (0, "file src/room/a.cpp: 401, more than 400: a table\n0 findings\n"))
        code, text = self.check("\n", "file src/room/a.cpp: a table\n")
        self.assertEqual(code, 1)
        self.assertIn("it is not over its limit", text)


if __name__ == "__main__":
    unittest.main()
