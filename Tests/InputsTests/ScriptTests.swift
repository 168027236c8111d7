import Inputs
import Testing

struct ScriptTests {
  @Test("a text is in the script of most of its letters")
  func aTextIsInTheScriptOfMostOfItsLetters() {
    for (text, script) in [
      ("hello", "Latin"), ("Ẹ káàárọ̀", "Latin"), ("привет, world-2", "Cyrillic"), ("γειά σου", "Greek"),
      ("你好,世界", "Han"), ("こんにちはカタカナ", "Kana"), ("안녕하세요", "Hangul"), ("مرحبا", "Arabic"), ("שלום", "Hebrew"),
      ("नमस्ते", "Devanagari"), ("สวัสดี", "Thai"), ("ሰላም", "Ethiopic"), ("abc где", "Latin"), ("𐌰𐌱", "other"),
    ] {
      #expect(Script.dominant(in: text) == script, "\(text)")
    }
    #expect(Script.dominant(in: "123 !? 😀") == nil && Script.dominant(in: "") == nil)
  }
}
