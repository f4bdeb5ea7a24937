"""The dashboard: pages rendered here, pictures drawn here, nothing from another host and no script."""
