let verifyCommand = Command(name: "verify", abstract: "", positionals: [], options: [], discussion: "") { _ in 0 }
let inspectCommand = Command(name: "inspect", abstract: "", positionals: [], options: [], discussion: "") { _ in 0 }
