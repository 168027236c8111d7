extension FidelityReport {
  /// A query whose first result became another.
  struct Change: Sendable, Equatable {
    enum Effect: String, Sendable {
      case lost = "the right one was first"
      case gained = "the right one is first now"
      case neither = "neither is the right one"
    }

    /// Places among all items.
    let query, before, after: Int
    let effect: Effect
  }

  /// What changed between the reference's search and another: what was lost first, then what was gained, each in order.
  func changes(_ run: Retrieval.Run) -> [Change] {
    let queries = baseline.rank.count
    let all = (0..<queries).compactMap { query -> Change? in
      guard let before = baseline.top[query].first, let after = run.top[query].first, before != after else {
        return nil
      }
      let effect: Change.Effect = baseline.rank[query] == 1 ? .lost : run.rank[query] == 1 ? .gained : .neither
      return Change(query: query, before: queries + before, after: queries + after, effect: effect)
    }
    return [.lost, .gained, .neither].flatMap { effect in all.filter { $0.effect == effect } }
  }
}
