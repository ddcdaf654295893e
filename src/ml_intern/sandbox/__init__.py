"""Where commands run: walls, pod, paths, environments. Knows no tool, no policy, no model."""
