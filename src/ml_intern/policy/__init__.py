"""Who may do what, at what price: pure functions of effects, view and rules. Knows no tool and no door."""
