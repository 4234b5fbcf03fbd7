"""What methods with few labels are made of."""
